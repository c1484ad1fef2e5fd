"""What somebody else wrote, as a message or a proposed command quotes it. Standard library only."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST: Final = 60


def brief(value: object) -> str:
    """Return `value` as an error message shows it: in ASCII, cut to `_LONGEST` characters."""
    text = "nothing" if value is None else ascii(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def shell_word(text: str) -> str:
    """Return `text` as a command shows it: one word of a shell, without anything that a terminal would obey.

    Where there is such a character, it is written as in ANSI-C quoting, which bash, zsh and ksh read.
    """
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_escaped, text))}'"


def shell_path(path: Path | str) -> str:
    """Return a path as a command shows it: as `shell_word` does, and never as an option."""
    text = str(path)
    return shell_word(f"./{text}" if text.startswith("-") else text)


def locate_command(path: Path | str) -> str:
    """Return the command that looks for a run, or a part of one, on all nodes of a cluster."""
    return f"orz ckpt locate {shell_path(path)} --ray"


def _escaped(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
