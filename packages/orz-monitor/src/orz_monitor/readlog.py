"""Read the files that a user names into one log, with the dialects that fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from orz_monitor.addresses import is_url, located
from orz_monitor.dialects import KNOWN, ORZ_TRAIN, Dialect, find_dialect, known_dialects, with_fallback
from orz_monitor.log import Log
from orz_monitor.parts import num_parts, read_in_parts
from orz_monitor.printable import one_line
from orz_monitor.reading import Reader
from orz_monitor.run_files import FIRST_LINE
from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.opening import chunks
from orz_monitor.transport.wrapping import unwrapped

_START_BYTES: Final = 200


def read_log(paths: Sequence[str], dialects: Sequence[type[Dialect]] | None = None) -> tuple[Log, list[type[Dialect]]]:
    """Read files, one after the other, into one log.

    A log in which no trainer's dialect finds a number is read again by the fallback.

    Args:
        paths: files, URLs, or `-` for standard input.
        dialects: the dialects to try, in order; all known ones by default.

    Returns:
        The log, and the dialects that its entries may be of.

    Raises:
        UnreadableRunError: a file can't be read, or is no text.
    """
    kinds = list(known_dialects() if dialects is None else dialects)
    log = Log()
    for path in paths:
        _read_file(path, log, kinds)
    trainers = {kind.name for kind in kinds if kind.is_trainer}  # an engine may run below a trainer we don't know
    found = any(log.votes[name] for name in trainers)
    if dialects is None and not found and "-" not in paths:
        again = Log()
        kinds = with_fallback(kinds)
        for path in paths:
            _read_file(path, again, kinds)
        log = again
    return log, [*kinds, find_dialect(ORZ_TRAIN)] if dialects is None else kinds


def _read_file(path: str, log: Log, kinds: Sequence[type[Dialect]]) -> None:
    """Read one file; a console log of ours is told by its first line."""
    reader: Reader | None = None
    for chunk in unwrapped(chunks(path, partial(log.torn.setdefault, one_line(path)))):
        if reader is None:
            chosen = _chosen(chunk, kinds)
            if path != "-" and not is_url(path) and (number := num_parts(Path(path))) > 1:
                read_in_parts(Path(path), log, chosen, number)
                return
            reader = Reader(log, chosen, located(path))
        reader.feed(chunk)
    (reader or Reader(log, kinds, located(path))).close()


def _chosen(start: bytes, kinds: Sequence[type[Dialect]]) -> Sequence[type[Dialect]]:
    """Return the dialects to read a file with, by its first bytes."""
    if without_escapes(start[:_START_BYTES]).startswith(FIRST_LINE):
        return [find_dialect(ORZ_TRAIN), find_dialect(KNOWN["crashes"])]
    return kinds
