"""What `orz` itself says on stderr: errors and warnings, coloured on a terminal, plain elsewhere."""
# ruff: noqa: PLC0415  every command loads this module, and few have anything to say here

from __future__ import annotations


def show_error(message: str, remedy: str = "") -> None:
    """Write an error, and what to do about it, to stderr."""
    _write("error", "bold red", message, remedy)


def show_warning(message: str, remedy: str = "") -> None:
    """Write a warning, and what to do about it, to stderr."""
    _write("warning", "bold yellow", message, remedy)


def _write(label: str, style: str, message: str, remedy: str) -> None:
    from rich.console import Console
    from rich.text import Text

    # Text, not markup: a message may quote brackets. rich honours NO_COLOR and leaves pipes uncoloured.
    text = Text.assemble((f"{label}: ", style), _shown(message))
    if remedy:
        text.append("\n  -> ", style="bold")
        text.append(_shown(remedy))
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


def _shown(text: str) -> str:
    """Return `text` with what a terminal would obey written as an escape: file names may hold anything."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode("ascii") for char in text
    )
