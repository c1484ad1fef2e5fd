"""Which files of a folder are logs, and in which order they were written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError, unreadable

_DATE: Final = r"\d{4}-?\d\d-?\d\d(?:[-_T.]?[\d.:_-]{1,20})?"
_LOG: Final = re.compile(
    rf"\.(?:log|out|err|txt|stdout|stderr)(?:[._-]?(?:{_DATE}|\d{{1,10}}))?(?:\.(?:gz|zst))?$"
    r"|^(?:nohup\.out|stdout|stderr|output)$",
    re.ASCII,
)
_ROTATED: Final = re.compile(
    rf"(?P<stem>.*\.(?:log|out|err|txt))(?:[._-](?P<date>{_DATE})|\.(?P<number>\d{{1,6}}))(?:\.(?:gz|zst))?$"
    rf"|(?P<before>.*)\.(?P<dated>{_DATE})(?P<ending>\.(?:log|out|err|txt))(?:\.(?:gz|zst))?$",
    re.ASCII,
)
"""`train.log.2`, `train.log-20260101` (logrotate), `train.log.2026-01-01` (Python), `train.2026-01-01.log` (loguru)."""
_NEVER: Final = {"requirements.txt", "license.txt", "readme.txt", "pip.txt", "conda-environment.txt"}
_MOST_FILES: Final = 2000
_MOST_DEPTH: Final = 6
_NEWER: Final = 1 << 30
_LIVE: Final = "~"
"""Comes after every date."""


def is_log(name: str) -> bool:
    """Tell whether a file is a log, by its name."""
    return _LOG.search(name) is not None and name.lower() not in _NEVER


def log_files(folder: Path) -> list[Path]:
    """Return the logs below a folder in the order in which they were written; hidden folders are left out.

    `train.log.2` was written before `train.log.1` and that before `train.log`, as were all files with a date at the
    end of the name. Numbers in names count: `attempt_2` comes before `attempt_10`. Links to other folders
    (`logs/latest`) are not followed.

    Raises:
        UnreadableRunError: there is none, too many, or the folder can't be read.
    """
    found: list[Path] = []
    try:
        for root, folders, files in os.walk(folder, onerror=_raise):
            depth = len(Path(root).relative_to(folder).parts)
            folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < _MOST_DEPTH else []
            found += [Path(root, name) for name in files if is_log(name) and Path(root, name).is_file()]
    except OSError as error:
        raise unreadable(folder, error) from error
    if not found:
        raise UnreadableRunError(
            f"{folder}: no metrics.jsonl and no log in this folder",
            remedy="give the folder that `orz train` printed as its run folder, or a log (*.log, *.out, *.err, *.txt)",
        )
    if len(found) > _MOST_FILES:
        raise UnreadableRunError(
            f"{folder}: {len(found)} logs, at most {_MOST_FILES} are read together", remedy="give a folder of one run"
        )
    return sorted(found, key=_age)


def _age(path: Path) -> tuple[list[list[str | int]], str, int, str]:
    """Sort by folder and name, rotated files of one name from the oldest on."""
    match = _ROTATED.match(path.name)
    stem, date, number = re.sub(r"\.(?:gz|zst)$", "", path.name), _LIVE, 0
    if match is not None:
        stem = match["stem"] or match["before"] + match["ending"]
        date = match["date"] or match["dated"] or _LIVE
        number = int(match["number"] or 0)
    places = [_natural(part) for part in (*path.parent.parts, stem)]
    return places, re.sub(r"\D", "", date) or date, _NEWER - number, path.name


def _natural(name: str) -> list[str | int]:
    """Split a name so that the numbers in it are compared as numbers.

    Example:
        >>> sorted(["slurm-1000.out", "slurm-999.out"], key=_natural)
        ['slurm-999.out', 'slurm-1000.out']
    """
    return [int(piece) if at % 2 else piece for at, piece in enumerate(re.split(r"([0-9]+)", name))]


def _raise(error: OSError) -> None:
    """Let a folder that can't be read be an error."""
    raise error
