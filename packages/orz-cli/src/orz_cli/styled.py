"""Text in styles on stdout: rich draws them on a terminal; a pipe gets the text as it is, and no command loads rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

Styled = Iterable[tuple[str, str]]
"""Pieces of a text, each with its style in rich's words, as `("OK ", "bold green")`; empty where it has none."""

_COLOURS = ("FORCE_COLOR", "TTY_COMPATIBLE")
"""Variables by which rich is told to draw styles in a pipe, too."""


def print_styled(text: Styled) -> None:
    """Write a text to stdout; it ends its own lines, and is wrapped nowhere.

    Raises:
        OSError: stdout refuses it.
    """
    if not sys.stdout.isatty() and not any(name in os.environ for name in _COLOURS):
        sys.stdout.write("".join(piece for piece, _ in text))
        return
    from rich.text import Text  # noqa: PLC0415  most runs of a program need none

    from orz_cli.output import OutputConsole  # noqa: PLC0415  likewise

    OutputConsole(highlight=False, soft_wrap=True).print(Text.assemble(*text), end="")
