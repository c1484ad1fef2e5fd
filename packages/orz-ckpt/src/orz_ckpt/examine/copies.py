"""Two copies of the weights in one checkpoint: do they agree, and where there are none, that nothing was compared.

DeepSpeed saves fp32 weights beside 16-bit ones, ranks of HSDP save the same shards; of these the readers have compared
the copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.readers.deepspeed import masters_differ

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.examine.files import How
    from orz_ckpt.examine.weights import Weights


def check_copies(path: Path, weights: Sequence[Weights], how: How) -> Iterator[CkptFinding]:
    """Compare the two copies of the weights that a checkpoint of DeepSpeed has, and say where there are no two.

    Args:
        path: what is verified.
        weights: what its folders hold; where none holds weights nothing is said.
        how: what was asked for.
    """
    masters = copied = total = 0
    held = [entry for entry in weights if entry.has_weights]
    for source in filter(None, (entry.source for entry in held)):
        if not source.format.startswith("deepspeed"):
            copied, total = copied + source.copied, total + len(source.tensors)
        elif source.tensors:
            try:
                findings, number = masters_differ(source.path, tag=how.tag, inert=how.inert)
            except OSError as error:
                yield finding("unreadable", f"cannot be read: {error}", path=source.path)
                return
            yield from findings
            masters += number
    if not held or masters or (total and copied == total):
        return
    message = "there is one copy of the weights: --level deep had no second one to compare it with"
    if copied:
        message = (
            f"{total - copied:,} of {total:,} tensors have one copy: --level deep had no second one to compare it with;"
            " those of the others were compared"
        )
    yield finding("one_copy", message, path=path)
