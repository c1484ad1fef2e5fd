"""Help texts of commands, made to be read on a terminal of 80 columns."""

from __future__ import annotations

import re
from typing import Any, Final

_NAMED: Final = re.compile(r"(?<!`)`([^`\[\]\\\n]+)`(?!`)")
"""A name in backticks; one with brackets, which stand for styles, or a backslash before them stays as it is."""
_STAYS: Final = re.compile(r"^(?:[-*\b]|\d+[.)] |\s)", flags=re.MULTILINE)
"""A line of a list, an indented one, or the mark that keeps the lines of a paragraph."""
_WIDEST_CHOICES: Final = 20


def for_terminals(text: str | None) -> str | None:
    r"""Return a help text for a terminal: each paragraph as one line, which is wrapped where it ends, and names bold.

    Typer keeps the line breaks of all paragraphs but the first, and shows backticks as they are. Lists stay.

    Args:
        text: a docstring, or the help of an option; None where there is none.

    Example:
        >>> for_terminals("Follow a run.\n\nEnds with the run;\n`q` leaves.")
        'Follow a run.\n\nEnds with the run; [bold]q[/bold] leaves.'
    """
    if not text:
        return text
    paragraphs = (part if _STAYS.search(part) else part.replace("\n", " ") for part in text.split("\n\n"))
    return _NAMED.sub(r"[bold]\1[/bold]", "\n\n".join(paragraphs))


def choices_for_terminals(kind: Any) -> str:
    r"""Return what stands for a choice in help, in lines that end with `|`; empty where it fits into one.

    Typer breaks a long one in the middle of a word.

    Args:
        kind: a type of typer's, a choice or not.

    Example:
        >>> from types import SimpleNamespace
        >>> choices_for_terminals(SimpleNamespace(choices=["text", "json", "junit", "sarif", "github"]))
        '<text|json|junit|\nsarif|github>'
    """
    words = [str(getattr(choice, "value", choice)) for choice in getattr(kind, "choices", ())]
    if len("|".join(words)) + 2 <= _WIDEST_CHOICES:
        return ""
    lines = ["<"]
    for word in [*(f"{word}|" for word in words[:-1]), f"{words[-1]}>"]:
        if len(lines[-1] + word) > _WIDEST_CHOICES:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)
