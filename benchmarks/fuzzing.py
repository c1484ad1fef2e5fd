"""What the fuzzers share: a target by its name, a corpus of seeds, libFuzzer's limits, inputs that are made long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import atheris

GROWN_BYTES = 1 << 20
GROWN_OF = 256
"""One input of so many is made that long."""


def grown(data: bytes, num_bytes: int = GROWN_BYTES) -> bytes:
    """Return the input; one in `GROWN_OF`, as its first byte chooses, with a part repeated up to `num_bytes`."""
    if len(data) < 4 or data[0] % GROWN_OF:  # noqa: PLR2004 - three numbers and something to repeat
        return data[1:]
    begin, length, rest = data[1] * len(data) // 256, 1 + data[2], data[3:]
    part = rest[begin : begin + length] or b"\0"
    return rest[:begin] + part * (num_bytes // len(part)) + rest[begin + length :]


def fuzz(
    targets: Mapping[str, Callable[[bytes], None]],
    seeds: Callable[[str], Iterable[bytes]],
    *,
    folder: Path,
    limits: Iterable[str],
    usage: str,
) -> None:
    """Fuzz the target that the command line names, until the time is over or something is wrong.

    Args:
        targets: by name.
        seeds: what a target begins with.
        folder: where the corpus is made.
        limits: options of libFuzzer; those of the command line come behind them.
        usage: what to say where no target is named.

    Raises:
        SystemExit: no target is named.
    """
    if len(sys.argv) < 2 or sys.argv[1] not in targets:  # noqa: PLR2004 - the program and the target
        raise SystemExit(usage)
    name = sys.argv.pop(1)
    corpus = folder / "corpus"
    corpus.mkdir()
    for index, seed in enumerate(seeds(name)):
        (corpus / str(index)).write_bytes(seed)
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:], str(corpus)], targets[name])
    atheris.Fuzz()
