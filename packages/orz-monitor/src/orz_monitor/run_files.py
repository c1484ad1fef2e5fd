"""What the files in a run folder of ours are called, and which folders are run folders.

Whoever reads, judges or follows a run asks here, so that all of them find the same runs in a folder.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from orz_monitor.records.reader import LINE_STARTS_WITH
from orz_monitor.settings import CONFIG_FILE

RECORDS_FILE: Final = "metrics.jsonl"
CONSOLE_FILE: Final = "console.log"
FIRST_LINE: Final = b"orz-train "
"""What the first line of our console log begins with."""
_START_BYTES: Final = 256


def holds_records(path: Path) -> bool:
    """Tell whether a file holds our records: a `metrics.jsonl` does unless it begins as another trainer's.

    One that can't be read is taken for ours as well: whoever reads it then says why it can't be.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_START_BYTES).lstrip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    except OSError:
        return path.name == RECORDS_FILE
    if start.startswith(LINE_STARTS_WITH):
        return True
    return path.name == RECORDS_FILE and (not start.startswith(b"{") or LINE_STARTS_WITH.startswith(start))


def run_folders(folder: Path, *, but: Collection[Path] = ()) -> list[Path]:
    """Return the run folders in a folder, the one whose records changed last first.

    Args:
        folder: where runs lie; not one of them itself.
        but: run folders that are known already, and not looked at again.
    """
    changed = []
    for records in folder.glob(f"*/{RECORDS_FILE}"):
        with suppress(OSError):  # removed since it was listed, or in a folder that may not be looked into
            if records.parent not in but and records.is_file() and holds_records(records):
                changed.append((-records.stat().st_mtime, records.parent))
    return [run for _, run in sorted(changed)]


def run_folder_of(file: Path) -> Path | None:
    """Return the run folder of its records file or its console log; None for any other file."""
    folder = file.parent
    if file.name == RECORDS_FILE:
        return folder if (folder / CONFIG_FILE).is_file() and holds_records(file) else None
    is_console = file.name == CONSOLE_FILE and _begins_as_console(file)
    return folder if is_console and holds_records(folder / RECORDS_FILE) else None


def _begins_as_console(path: Path) -> bool:
    """Tell whether a file begins as our console log, or has yet to begin; one that can't be read does not."""
    try:
        with path.open("rb") as file:
            return FIRST_LINE.startswith(file.read(len(FIRST_LINE)))
    except OSError:
        return False
