"""Rotated logs: which files are earlier parts of a log, and in which order they were written.

`train.log.2.gz` (logrotate), `train.log-20260101` (with dates), `train.log.2026-01-01` (Python) and
`train.2026-01-01.log` (loguru) are parts of `train.log`; `train.log.bak`, `train.log.md5` and `train.log.gz` are none.
Names with numbers may be those of processes, too, `train.log.0` to `train.log.7`: what stands in the files decides.
"""

from __future__ import annotations

import re
import stat
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from orz_monitor.addresses import real as real_path
from orz_monitor.errors import UnreadableRunError
from orz_monitor.side_by_side import side_by_side

DATE: Final = r"\d{4}-?(?:0\d|1[0-2])-?[0-3]\d(?:[-_T.]?[\d.:_-]{1,20})?"
_PACKED: Final = r"(?:\.(?:gz|zst))?$"
_ROTATED: Final = re.compile(
    rf"(?P<stem>.*\.(?:log|out|err|txt))(?:[._-](?P<date>{DATE})|\.(?P<number>\d{{1,6}})){_PACKED}"
    rf"|(?P<before>.*)\.(?P<dated>{DATE})(?P<ending>\.(?:log|out|err|txt)){_PACKED}",
    re.ASCII,
)
_PACKINGS: Final = (".gz", ".zst")
_NEWER: Final = 1 << 30
_LIVE: Final = "~"
"""Comes after every date."""
_COMPARED_BYTES: Final = 64 << 10
MOST_PARTS: Final = 500
"""The newest ones, which are read with a log."""
_MOST_NAMED: Final = 3


def log_of(path: Path) -> Path:
    """Return the log of which a file is an earlier part, by its name alone; any other file is its own.

    Example:
        >>> [log_of(Path(name)).name for name in ("a.log.2.gz", "a.log-20260101", "a.2026-01-01.log", "a.log.bak")]
        ['a.log', 'a.log', 'a.log', 'a.log.bak']
    """
    match = _ROTATED.match(path.name)
    if match is None:
        return path
    return path.with_name(match["stem"] or match["before"] + match["ending"])


def logs_of(paths: Sequence[Path]) -> list[Path]:
    """Return the log of which each of several files is an earlier part, where they lie together.

    Logs of processes with the names of parts (`train.log.0`, `train.log.1`) are their own. None of them is packed, and
    the clock times in them say that they were written side by side. Where there are no times, they are those that are
    numbered from 0, unless steps go on from one to the next: most loggers number parts from 1.
    """
    own = _of_processes(paths)
    return [path if path in own else log_of(path) for path in paths]


def age(path: Path) -> tuple[list[list[str | int]], str, int, str]:
    """Return what sorts files by folder and name, those of one log from the oldest on.

    `train.log.2` was written before `train.log.1`, that before `train.log`, and files with a date in their names in
    the order of their dates. Numbers in other names count: `attempt_2` comes before `attempt_10`.
    """
    match = _ROTATED.match(path.name)
    stem, date, number = re.sub(_PACKED, "", path.name), _LIVE, -1
    if match is not None:
        stem = log_of(path).name
        date = match["date"] or match["dated"] or _LIVE
        number = int(match["number"] or -1)
    places = [_natural(part) for part in (*path.parent.parts, stem)]
    return places, re.sub(r"\D", "", date) or date, _NEWER - number, path.name


def without_twins(paths: Collection[Path]) -> list[Path]:
    """Leave out rotated files that are packed where the same one is there plain: it is being packed."""
    plain = set(paths)
    return [
        path
        for path in paths
        if path.suffix not in _PACKINGS or log_of(path) == path or path.with_suffix("") not in plain
    ]


def earlier_parts(log: Path) -> list[Path]:
    """Return the earlier parts of a log that lie beside it, the oldest first.

    A file that is named as a part itself has none, nor has a link to one: `latest.log` is the log that it leads to.
    Copies are left out: files that begin as the log does, and are no longer. So are logs of processes (`logs_of`), and
    what a folder holds that may not be listed.
    """
    with suppress(OSError):
        real = real_path(log) if log.is_symlink() else log
        if log_of(real) == real and (real.is_file() or not real.exists()):
            beside = [path for path in real.parent.iterdir() if log_of(path) == real != path and _holds_bytes(path)]
            parts = [path for path in without_twins(beside) if not _is_copy(path, real)]
            own = _of_processes([real, *parts])
            return sorted((path for path in parts if path not in own), key=age)
    return []


def read_with(parts: Sequence[Path]) -> str:
    """Say which earlier parts a log was read with; empty where there are none.

    Example:
        >>> read_with([Path("runs/train.log.2.gz"), Path("runs/train.log.1")])
        'read with train.log.2.gz and train.log.1: earlier parts of the log'
    """
    if not parts:
        return ""
    return f"read with {listed(parts)}: {'earlier parts' if len(parts) > 1 else 'an earlier part'} of the log"


def listed(parts: Sequence[Path]) -> str:
    """Name files, of many the first two and the last.

    Example:
        >>> listed([Path(f"train.log.{number}") for number in (9, 8, 7, 6)])
        'train.log.9, train.log.8 and so on up to train.log.6, 4 files'
    """
    names = [part.name for part in parts]
    if len(names) > _MOST_NAMED:
        return f"{names[0]}, {names[1]} and so on up to {names[-1]}, {len(names)} files"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _of_processes(paths: Collection[Path]) -> set[Path]:
    """Return those of some files that have a part's name with a number and are logs of processes."""
    numbered = defaultdict[Path, dict[Path, int]](dict)
    for path in paths:
        match = _ROTATED.match(path.name)
        if match is not None and match["number"]:
            numbered[log_of(path)][path] = int(match["number"])
    found: set[Path] = set()
    for log, parts in numbered.items():
        newest = sorted(parts, key=age)[-2:]
        if log in paths and _holds_bytes(log):
            newest = [newest[-1], log]
        if len(newest) == 1 or any(part.suffix in _PACKINGS for part in parts):
            continue
        are_beside = side_by_side(*newest)
        if are_beside or (are_beside is None and {0, 1} <= set(parts.values())):
            found.update(parts)
    return found


def _holds_bytes(path: Path) -> bool:
    """Tell whether a path is a file with something in it; a pipe of that name would never end."""
    with suppress(OSError):
        found = path.stat()
        return stat.S_ISREG(found.st_mode) and found.st_size > 0
    return False


def _is_copy(part: Path, log: Path) -> bool:
    """Tell whether a file is a copy of a log, made before the log grew to what it is."""
    with suppress(OSError, UnreadableRunError):  # what can't be read is told when it is read
        if part.suffix not in _PACKINGS and part.stat().st_size > log.stat().st_size:
            return False
        start = _start(part)
        return bool(start) and _start(log).startswith(start)
    return False


def _start(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked."""
    from orz_monitor.transport.opening import opened  # noqa: PLC0415 - gzip; most logs have nothing beside them

    with opened(path) as file:
        return file.read(_COMPARED_BYTES)


def _natural(name: str) -> list[str | int]:
    """Split a name so that the numbers in it are compared as numbers.

    Example:
        >>> sorted(["slurm-1000.out", "slurm-999.out"], key=_natural)
        ['slurm-999.out', 'slurm-1000.out']
    """
    return [int(piece) if at % 2 else piece for at, piece in enumerate(re.split(r"([0-9]+)", name))]
