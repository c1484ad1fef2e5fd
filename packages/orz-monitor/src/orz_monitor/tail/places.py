"""What to follow in a folder."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.log_folder import log_files
from orz_monitor.run_files import CONSOLE_FILE, RECORDS_FILE, run_folders

_LOG_SUFFIXES: Final = {".log", ".out", ".err", ".txt"}
_LOGS_OF_WANDB: Final = {"debug.log", "debug-internal.log", "debug-core.log"}
_LOOK_AGAIN_S: Final = 2.0
"""Runs that begin later are looked for this often."""


def newest_run(folder: Path) -> Path | None:
    """Return what to follow in a folder.

    That is the folder itself where it is a run folder, else the run folder in it whose records changed last, else
    the log in it that changed last, else the log in folders below; None where there is none of them. The console
    log of a run that is about to begin is none: its records follow.
    """
    if (folder / RECORDS_FILE).is_file():
        return folder
    runs = run_folders(folder)
    if runs:
        return runs[0]
    logs = [path for path in folder.glob("*") if path.suffix in _LOG_SUFFIXES and path.is_file()]
    if not logs:
        with suppress(UnreadableRunError):  # there is none yet
            logs = [path for path in log_files(folder) if path.name != CONSOLE_FILE and not _is_of_wandb(path)]
    return _by_change(logs)


class NewRuns:
    """Looks for run folders that begin while another one in the same folder is followed.

    Which of them changed last says nothing: several may go on at once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = set(run_folders(folder))
        self._look_at = time.monotonic() + _LOOK_AGAIN_S
        self._newest: Path | None = None

    def newest(self) -> Path | None:
        """Return the run that began last since; None where none did."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_AGAIN_S
            new = run_folders(self._folder, but=self._known)
            self._known.update(new)
            self._newest = new[0] if new else self._newest
        return self._newest


def _by_change(paths: Iterable[Path]) -> Path | None:
    """Return the file that changed last."""
    changed = []
    for path in paths:
        with suppress(FileNotFoundError):  # removed since it was listed
            changed.append((path.stat().st_mtime, path))
    return max(changed)[1] if changed else None


def _is_of_wandb(path: Path) -> bool:
    """Tell whether a log is of W&B itself, in which there is never a metric."""
    own = path.name in _LOGS_OF_WANDB and path.parent.name == "logs"
    return own and any(path.parent.parent.glob("*.wandb"))
