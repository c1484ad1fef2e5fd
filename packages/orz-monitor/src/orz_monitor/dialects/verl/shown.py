"""The row of a metric line that may go on: whoever looks at the log sees it, until the whole line takes its place."""

from __future__ import annotations

from orz_monitor.log import Log, Row


class ShownStep:
    """A row that stands for a line which is not known to be whole.

    Attributes:
        body: what of the line the row holds.
        row: it; None where nothing is shown.
    """

    def __init__(self) -> None:
        self.body = b""
        self.row: Row | None = None

    def show(self, row: Row | None, body: bytes, log: Log) -> None:
        """Put a row, which was just added, in the place of the one before it."""
        self.take(row, log)
        self.row, self.body = row, body

    def take(self, row: Row | None, log: Log) -> None:
        """Put the row of the whole line, which was just added, in the place of what is shown; None takes that away.

        What is shown may be that row.
        """
        shown, self.row, self.body = self.row, None, b""
        if shown is not None and shown is not row:
            log.replace(shown, row)
