"""What can go wrong while a run is read or judged."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orz_cli.errors import OrzError
from orz_cli.exits import ExitCode
from orz_monitor.addresses import is_url
from orz_monitor.printable import one_line

if TYPE_CHECKING:
    from orz_monitor.run import Coverage

EXPORT_PLAINLY: Final = (
    "export it with decimal points, with nothing between thousands, and with commas or tabs between cells"
)
"""What to do about a table with numbers that may be 1234 or 1.234; semicolons between cells leave it open."""


class UnreadableRunError(OrzError, ValueError):
    """A path holds no run that can be judged: nothing there, nothing readable, or no metric recognised.

    Attributes:
        coverage: how much of a log was understood that was read in vain; None where none was read.
    """

    exit_code = ExitCode.INCONCLUSIVE
    coverage: Coverage | None = None


def unreadable(place: Path | str, error: Exception, *, form: str = "", remedy: str = "") -> UnreadableRunError:
    """Return the error of something that can't be read: what, where, why, and what to do about it.

    Args:
        place: what was to be read. A file that the error itself names, such as one in a folder, is named instead,
            but for a URL: a store knows its files under other names than the user. Where a folder may not be looked
            into, it is named, whatever was looked for in it.
        error: what reading it failed with.
        form: what it can't be read as, such as `a SQLite database`.
        remedy: what to do; by default `remedy_of` the error.
    """
    named = getattr(error, "filename", None)
    where = place if is_url(place) or not isinstance(named, str | Path) else named
    closed = _closed_folder(Path(where)) if isinstance(error, PermissionError) and not is_url(place) else None
    if closed is not None:
        return UnreadableRunError(
            unreadable_words(closed, error),
            remedy="ask for permission to read it (a folder takes r and x), or copy it to where you may",
        )
    return UnreadableRunError(unreadable_words(where, error, form=form), remedy=remedy or remedy_of(error))


def _closed_folder(path: Path) -> Path | None:
    """Return the first folder on the way to a path that lets nobody through, or the path, if it is such a folder."""
    with suppress(OSError):
        for folder in (*reversed(path.parents), path):
            needed = os.X_OK | (os.R_OK if folder == path else 0)
            if folder.is_dir() and not os.access(folder, needed):
                return folder
    return None


def unreadable_words(place: Path | str, error: Exception, *, form: str = "") -> str:
    """Say that a place can't be read, and why; `-` is standard input.

    Example:
        >>> unreadable_words("train.log", PermissionError(13, "Permission denied"))
        "train.log: can't be read: Permission denied"
    """
    where = "standard input" if str(place) == "-" else one_line(str(place))
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{where}: can't be read{f' as {form}' if form else ''}: {why}"


def remedy_of(error: BaseException) -> str:
    """Say what to do about an error of reading."""
    if isinstance(error, PermissionError):
        return "ask for permission to read it, or copy it to where you may"
    if isinstance(error, FileNotFoundError):
        return "check the path"
    return "check the path and its permissions"
