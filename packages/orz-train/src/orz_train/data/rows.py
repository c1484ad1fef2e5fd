"""Rows of prompt files, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orz_train.errors import DataError

_MAX_PROBLEMS = 5
"""Rows that an error names; the others are counted."""

Message = Mapping[str, str]
"""One chat message: `role` and `content`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a prompt file."""

    number: int
    """From 1; in JSONL the line."""
    problem: str | tuple[Message, ...]
    """Text, or chat messages."""
    answer: str
    name: str | None = None
    """What the row's `id` field says."""
    meta: Mapping[str, object] = field(default_factory=dict)


class BadRowError(ValueError):
    """One row can't be used; the text says what was got and what was expected."""


class RowProblems:
    """Collects what is wrong with the rows of one file, to report it together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: list[str] = []

    def add(self, number: int, problem: object) -> None:
        """Note what is wrong with a row."""
        self._problems.append(f"row {number}: {problem}")

    def raise_if_any(self) -> None:
        """Report the first few rows, and count the rest.

        Raises:
            DataError: a problem was noted.
        """
        if not self._problems:
            return
        count = len(self._problems)
        shown = "".join(f"\n  {problem}" for problem in self._problems[:_MAX_PROBLEMS])
        more = f"\n  and {count - _MAX_PROBLEMS} more" if count > _MAX_PROBLEMS else ""
        rows = "1 row" if count == 1 else f"{count} rows"
        raise DataError(f"{self._path}: {rows} can't be used{shown}{more}", remedy="correct or remove them")
