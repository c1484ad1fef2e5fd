"""The table that transformers prints into notebooks: a heading, then a row a logged step, cells between tabs or bars.

transformers 5.19.0, `utils/notebook.py` (`NotebookProgressCallback`): the first column is `Step`, or `Epoch` where it
evaluates by epochs, the second `Training Loss`; what was not logged at a step is `No log`. Trainers add columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from orz_monitor.numbers import number

_SEPARATORS: Final = (b"\t", b"|")
_COUNTERS: Final = (b"Step", b"Epoch")
_LOSS: Final = b"Training Loss"
_NOT_LOGGED: Final = b"No log"
_RULED: Final = b"-:"
"""What the line below the heading is made of, where the table is one of Markdown."""


@dataclass(frozen=True, slots=True)
class NotebookTable:
    """A table whose heading was read.

    Attributes:
        columns: their names, without the first one's.
        counts_steps: whether the first column is the step.
        separator: between cells.
    """

    columns: tuple[bytes, ...]
    counts_steps: bool
    separator: bytes

    @classmethod
    def of_heading(cls, text: bytes) -> Self | None:
        """Return the table of a heading; None for any other line."""
        for separator in _SEPARATORS:
            first, *columns = _cells(text, separator)
            if first in _COUNTERS and columns and columns[0] == _LOSS:
                return cls(columns=tuple(columns), counts_steps=first == _COUNTERS[0], separator=separator)
        return None

    def is_rule(self, text: bytes) -> bool:
        """Tell whether a line only underlines the heading."""
        return b"-" in text and not text.strip(_RULED + self.separator + b" ")

    def row(self, text: bytes) -> tuple[int | None, list[tuple[bytes, bytes]]] | None:
        """Return the step of a row, where the table counts steps, and its cells as key and value; None for no row."""
        first, *cells = _cells(text, self.separator)
        count = number(first)
        if count is None or len(cells) != len(self.columns) or (self.counts_steps and not count.is_integer()):
            return None
        pairs = [pair for pair in zip(self.columns, cells, strict=True) if pair[1] != _NOT_LOGGED]
        if any(number(cell) is None for _, cell in pairs):
            return None
        return (int(count), pairs) if self.counts_steps else (None, [(b"epoch", first), *pairs])


def _cells(text: bytes, separator: bytes) -> list[bytes]:
    """Return the cells of a line, of which a table of Markdown has bars at both ends, too."""
    line = text.strip(b" \r")
    if separator == b"|":
        line = line.strip(b"|")
    return [cell.strip() for cell in line.split(separator)]
