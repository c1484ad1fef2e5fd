"""What to follow in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.logfiles import log_files

RECORDS_FILE: Final = "metrics.jsonl"
CONSOLE_FILE: Final = "console.log"
_LOG_SUFFIXES: Final = {".log", ".out", ".err", ".txt"}


def newest_run(folder: Path) -> Path | None:
    """Return what to follow in a folder.

    That is the folder itself where it is a run folder, else the run folder in it whose records changed last, else
    the log in it that changed last, else the log in folders below; None where there is none of them. The console
    log of a run that is about to begin is none: its records follow.
    """
    if (folder / RECORDS_FILE).exists():
        return folder
    runs = _by_change(folder.glob(f"*/{RECORDS_FILE}"))
    if runs is not None:
        return runs.parent
    logs = [path for path in folder.glob("*") if path.suffix in _LOG_SUFFIXES and path.is_file()]
    if not logs:
        with suppress(UnreadableRunError):  # there is none yet
            logs = [path for path in log_files(folder) if path.name != CONSOLE_FILE]
    return _by_change(logs)


def _by_change(paths: Iterable[Path]) -> Path | None:
    """Return the file that changed last."""
    changed = []
    for path in paths:
        with suppress(FileNotFoundError):  # removed since it was listed
            changed.append((path.stat().st_mtime, path))
    return max(changed)[1] if changed else None


def is_of_run_folder(path: Path) -> bool:
    """Tell whether a file is the records file or the console log of a run folder."""
    if path.name == RECORDS_FILE:
        return (path.parent / "config.yaml").is_file()
    return path.name == CONSOLE_FILE and (path.parent / RECORDS_FILE).is_file()
