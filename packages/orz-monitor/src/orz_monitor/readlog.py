"""Read the files that a user names into one log, with the dialects that fit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from orz_monitor.addresses import is_url, located
from orz_monitor.dialects import KNOWN, ORZ_TRAIN, Dialect, find_dialect, known_dialects, with_fallback
from orz_monitor.errors import UnreadableRunError
from orz_monitor.log import Log
from orz_monitor.parts import num_parts, read_in_parts
from orz_monitor.printable import one_line
from orz_monitor.reading import Reader
from orz_monitor.rotation import log_of
from orz_monitor.run_files import FIRST_LINE
from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.opening import chunks
from orz_monitor.transport.wrapping import unwrapped

_START_BYTES: Final = 200


def read_log(
    paths: Sequence[str], dialects: Sequence[type[Dialect]] | None = None, *, earlier: Collection[str] = ()
) -> tuple[Log, list[type[Dialect]]]:
    """Read files, one after the other, into one log; what one rotated log was is read as one.

    A log in which no trainer's dialect finds a number is read again by the fallback.

    Args:
        paths: files, URLs, or `-` for standard input.
        dialects: the dialects to try, in order; all known ones by default.
        earlier: those that nobody has named: what can't be read of them is told, and is no error.

    Returns:
        The log, and the dialects that its entries may be of.

    Raises:
        UnreadableRunError: a file can't be read, or is no text.
    """
    kinds = list(known_dialects() if dialects is None else dialects)
    log = _read_files(paths, kinds, earlier)
    trainers = {kind.name for kind in kinds if kind.is_trainer}  # an engine may run below a trainer we don't know
    found = any(log.votes[name] for name in trainers)
    if dialects is None and not found and "-" not in paths:
        kinds = with_fallback(kinds)
        log = _read_files(paths, kinds, earlier)
    return log, [*kinds, find_dialect(ORZ_TRAIN)] if dialects is None else kinds


def _read_files(paths: Sequence[str], kinds: Sequence[type[Dialect]], earlier: Collection[str]) -> Log:
    """Read files, one after the other."""
    log, before = Log(), ""
    dialects: Sequence[Dialect] = ()
    for path in paths:
        is_same = bool(before) and not is_url(path) and log_of(Path(before)) == log_of(Path(path))
        try:
            dialects = _read_file(path, log, kinds, dialects if is_same else ())
        except UnreadableRunError as error:
            if path not in earlier:
                raise
            log.unread.append(f"{error.message}: not read with the log of which it is an earlier part")
            dialects = ()
        before = path
    return log


def _read_file(path: str, log: Log, kinds: Sequence[type[Dialect]], earlier: Sequence[Dialect]) -> Sequence[Dialect]:
    """Read one file; a console log of ours is told by its first line.

    Args:
        path: the file.
        log: where entries go.
        kinds: the dialects to try, in order.
        earlier: what the part of the same log before it was read with.

    Returns:
        What it was read with; nothing where others have read it, too.
    """
    reader: Reader | None = None
    for chunk in unwrapped(chunks(path, partial(log.torn.setdefault, one_line(path)))):
        if reader is None:
            chosen = _chosen(chunk, kinds)
            if path != "-" and not is_url(path) and (number := num_parts(Path(path))) > 1:
                read_in_parts(Path(path), log, chosen, number)
                return ()
            reader = Reader(log, chosen, located(path), earlier=earlier)
        reader.feed(chunk)
    reader = reader or Reader(log, kinds, located(path), earlier=earlier)
    reader.close()
    return reader.dialects


def _chosen(start: bytes, kinds: Sequence[type[Dialect]]) -> Sequence[type[Dialect]]:
    """Return the dialects to read a file with, by its first bytes."""
    if without_escapes(start[:_START_BYTES]).startswith(FIRST_LINE):
        return [find_dialect(ORZ_TRAIN), find_dialect(KNOWN["crashes"])]
    return kinds
