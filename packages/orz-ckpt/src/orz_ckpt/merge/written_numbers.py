"""Are the numbers that a merge writes numbers: NaN and infinity, and weights that are nothing but zeros.

Both are told from what passes through memory anyway. They are warnings: a merge changes no number, and those of the
model are what was asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.reading import read_once
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.safetensors import read_header
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.floats import FLOATS, largest_magnitude
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orz_ckpt.merge.chunks import Part
    from orz_ckpt.merge.plan import Plan

_OLDER: Final = "merge an older checkpoint; look at the losses and gradient norms before this step"
_MAX_NAMED: Final = 3
_FIRST_BYTES: Final = 4096
"""Of a part: hardly any weight has nothing but zeros in them."""


class WrittenNumbers:
    """What the numbers of one merge look like.

    Args:
        plan: what is written.
        source: where it comes from.
    """

    def __init__(self, plan: Plan, source: Path) -> None:
        self._plan, self._source = plan, source
        self._nonfinite: dict[str, Path] = {}
        self._matrices = {
            tensor.name for tensor in plan.tensors if len(tensor.shape) > 1 and tensor.nbytes and tensor.dtype in FLOATS
        }
        self._all_zero = bool(self._matrices)
        """Whether no weight of two dimensions or more had another number so far."""

    def look(self, part: Part, data: memoryview, finite: bool) -> None:  # noqa: FBT001  of a callback
        """Look at what is written; any thread may call it.

        Args:
            part: of which tensor it is.
            data: its bytes.
            finite: whether it is known to hold no NaN and no infinity.
        """
        kind = FLOATS.get(part.tensor.dtype)
        if kind is None:
            return
        if self._all_zero and part.tensor.name in self._matrices:
            seen = largest_magnitude(data[:_FIRST_BYTES], kind) or largest_magnitude(data, kind)
            if seen:  # once it is so, it stays: several threads say it
                self._all_zero = False
        if not finite and largest_magnitude(data, kind) >= kind.nonfinite:
            self._nonfinite.setdefault(part.tensor.name, part.tensor.source.pieces[0].block.path)

    def look_again(self, file: Path) -> None:
        """Look at a file that an earlier run of this merge has written.

        Raises:
            OSError: it cannot be read.
        """
        paths = {tensor.name: tensor.source.pieces[0].block.path for tensor in self._plan.tensors if tensor.nbytes}
        numbers = read_once(file, read_header(file), algo=None, numbers=True).numbers
        self._nonfinite |= {name: paths[name] for name, found in numbers.items() if found.nonfinite}
        if any(found.largest for name, found in numbers.items() if name in self._matrices):
            self._all_zero = False

    def findings(self) -> list[CkptFinding]:
        """Say what was seen; call it once everything is written."""
        return [replace(entry, severity=Severity.WARN) for entry in (*self._not_finite(), *self._zeros())]

    def _not_finite(self) -> Iterator[CkptFinding]:
        """Say which tensors hold NaN or infinity."""
        order = {tensor.name: number for number, tensor in enumerate(self._plan.tensors)}
        bad = sorted(self._nonfinite.items(), key=lambda item: order[item[0]])
        for name, path in bad[:_MAX_NAMED]:
            yield finding("not_finite", f"{brief(name)} holds NaN or Inf", remedy=_OLDER, path=path, tensor=name)
        if len(bad) > _MAX_NAMED:
            message = f"and {len(bad) - _MAX_NAMED} more tensors hold NaN or Inf"
            yield finding("not_finite", message, remedy=_OLDER, path=bad[_MAX_NAMED][1])

    def _zeros(self) -> Iterator[CkptFinding]:
        """Say whether nothing but zeros was in the weights: what a writer of empty buffers leaves."""
        if self._all_zero:
            message = f"all {len(self._matrices)} weights are zero: nothing was copied into what was saved"
            remedy = "save the model again, or merge another"
            yield finding("all_zero_model", message, remedy=remedy, path=self._source)
