"""Which files of a folder are logs, and in which order they were written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError, unreadable
from orz_monitor.rotation import DATE, age, without_twins

_LOG: Final = re.compile(
    rf"\.(?:log|out|err|txt|stdout|stderr)(?:[._-]?(?:{DATE}|\d{{1,10}}))?(?:\.(?:gz|zst))?$"
    r"|^(?:nohup\.out|stdout|stderr|output)$",
    re.ASCII,
)
_NEVER: Final = {"requirements.txt", "license.txt", "readme.txt", "pip.txt", "conda-environment.txt"}
_MOST_FILES: Final = 2000
_MOST_DEPTH: Final = 6


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
    return sorted(without_twins(found), key=age)


def _raise(error: OSError) -> None:
    """Let a folder that can't be read be an error."""
    raise error
