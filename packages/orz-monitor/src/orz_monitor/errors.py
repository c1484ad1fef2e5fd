"""What can go wrong while a run is read or judged."""

from __future__ import annotations

from orz_cli.errors import OrzError
from orz_cli.exits import ExitCode


class UnreadableRunError(OrzError, ValueError):
    """A path holds no run that can be judged: nothing there, nothing readable, or no metric recognised."""

    exit_code = ExitCode.INCONCLUSIVE


def remedy_of(error: BaseException) -> str:
    """Say what to do about an error of reading."""
    if isinstance(error, PermissionError):
        return "ask for permission to read it, or copy it to where you may"
    if isinstance(error, FileNotFoundError):
        return "check the path"
    return "check the path and its permissions"
