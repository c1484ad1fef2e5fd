"""What the fuzzers share: a target by its name, a corpus of seeds, libFuzzer's limits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import atheris


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
