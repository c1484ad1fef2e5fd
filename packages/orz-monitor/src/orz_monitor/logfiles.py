"""Which files of a folder are logs, and in which order they were written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError

_LOG: Final = re.compile(
    r"\.(?:log|out|err|txt|stdout|stderr)(?:[._-]?\d{1,10})?(?:\.(?:gz|zst))?$|^(?:nohup\.out|stdout|stderr|output)$"
)
_ROTATED: Final = re.compile(r"(?P<stem>.*\.(?:log|out|err|txt))\.(?P<number>\d{1,6})(?:\.(?:gz|zst))?$")
_NEVER: Final = {"requirements.txt", "license.txt", "readme.txt", "pip.txt", "conda-environment.txt"}
_MOST_FILES: Final = 2000
_MOST_DEPTH: Final = 6
_NEWER: Final = 1 << 30


def log_files(folder: Path) -> list[Path]:
    """Return the logs below a folder in the order in which they were written; hidden folders are left out.

    `train.log.2` was written before `train.log.1` and that before `train.log`. Links to other files of the folder
    (`logs/latest`) are not followed.

    Raises:
        UnreadableRunError: there is none, too many, or the folder can't be read.
    """
    found: list[Path] = []
    try:
        for root, folders, files in os.walk(folder, onerror=_raise):
            depth = len(Path(root).relative_to(folder).parts)
            folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < _MOST_DEPTH else []
            found += [
                Path(root, name)
                for name in files
                if _LOG.search(name) and name.lower() not in _NEVER and Path(root, name).is_file()
            ]
    except OSError as error:
        raise UnreadableRunError(
            f"{folder}: can't be read: {error.strerror or error}", remedy="check its permissions"
        ) from error
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


def _age(path: Path) -> tuple[str, int, str]:
    """Sort by folder and name, rotated files of one name from the oldest on."""
    match = _ROTATED.match(path.name)
    stem = match["stem"] if match else re.sub(r"\.(?:gz|zst)$", "", path.name)
    number = int(match["number"]) if match else 0
    return str(path.parent / stem), _NEWER - number, path.name


def _raise(error: OSError) -> None:
    """Let a folder that can't be read be an error."""
    raise error
