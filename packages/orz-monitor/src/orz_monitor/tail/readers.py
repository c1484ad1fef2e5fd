"""What turns the bytes of a file that grows into a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from orz_monitor.errors import UnreadableRunError
from orz_monitor.records.reader import LINE_STARTS_WITH
from orz_monitor.run_files import RECORDS_FILE
from orz_monitor.tail.refusals import refuse_compressed, refuse_store

if TYPE_CHECKING:
    from orz_monitor.console_events import ConsoleWords
    from orz_monitor.dialects import Dialect
    from orz_monitor.run import Run
    from orz_monitor.tail.log_reader import LogReader

_START_BYTES: Final = 64 << 10
"""Of a file, by which it is told what it is."""


class Reader(Protocol):
    """Turns the bytes of a log into a run.

    Attributes:
        has_parts: whether a log that was rotated is one with its earlier parts.
    """

    has_parts: ClassVar[bool]

    @property
    def num_lines(self) -> int:
        """How many lines were read, one that has not ended yet with them."""
        ...

    @property
    def num_alike(self) -> int:
        """How many lines look like metrics, and are too few to be sure."""
        ...

    def feed(self, data: bytes) -> None:
        """Take more of the log."""
        ...

    def next_file(self, path: Path) -> None:
        """Take note that what follows is of another file, of which the lines are numbered from 1.

        Args:
            path: an earlier part of the log, or the log itself, which has come after one or was rotated.
        """
        ...

    def note(self, problem: str) -> None:
        """Take note of what can't be read of the log, in words."""
        ...

    def pause(self) -> bool:
        """Take the last line as it stands if nothing came behind it for a while; tells whether there is more to see."""
        ...

    def snapshot(self, others: Sequence[LogReader] = (), words: ConsoleWords | None = None) -> Run:
        """Return the run as far as it was read.

        Args:
            others: logs of other processes, which are of the run, too.
            words: what the console log beside records says.
        """
        ...


def make_reader(path: Path, folder: Path | None, dialects: Sequence[type[Dialect]] | None = None) -> Reader:
    """Return a reader for a file; numpy is imported here, after the first picture.

    Raises:
        UnreadableRunError: the file is compressed, a store of another tool, or no text.
    """
    refuse_compressed(path)
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if path.name == RECORDS_FILE or start.lstrip().startswith(LINE_STARTS_WITH):
        from orz_monitor.tail.records_reader import RecordsReader  # noqa: PLC0415 - numpy

        return RecordsReader(path, folder)
    from orz_monitor.transport.opening import refuse_binary  # noqa: PLC0415 - gzip

    try:
        refuse_binary(start, path)
    except UnreadableRunError:
        refuse_store(path)  # says better what it is
        raise
    from orz_monitor.tail.log_reader import LogReader  # noqa: PLC0415 - numpy

    return LogReader(path, folder, dialects)
