"""Tables on a terminal as wide as it is, in a pipe as wide as they need."""

from __future__ import annotations

from typing import Final

from orz_cli.output import OutputConsole

_PIPE_COLUMNS: Final = 250


def wide_console() -> OutputConsole:
    """Return a console for stdout that folds nothing where no terminal asks for it."""
    console = OutputConsole(highlight=False, soft_wrap=True)
    return console if console.is_terminal else OutputConsole(highlight=False, soft_wrap=True, width=_PIPE_COLUMNS)
