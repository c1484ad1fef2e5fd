"""What is read beside the values of a run: the console log of a run folder, or the other logs of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orz_monitor.run_files import CONSOLE_FILE

if TYPE_CHECKING:
    from orz_monitor.console_events import ConsoleWords
    from orz_monitor.dialects import Dialect
    from orz_monitor.tail.companions import Companions
    from orz_monitor.tail.console_reader import ConsoleReader
    from orz_monitor.tail.log_reader import LogReader


class Beside:
    """Reads what there is beside a file with values; nothing beside a log that was named.

    Args:
        values: that file.
        run_folder: the run folder that it is in, or None.
        logs_folder: the folder of logs that was named, or None.
        dialects: the dialects to read logs with; None for all known ones.
    """

    def __init__(
        self,
        values: Path,
        run_folder: Path | None,
        logs_folder: Path | None,
        *,
        dialects: Sequence[type[Dialect]] | None = None,
    ) -> None:
        self._values = values
        self._run_folder = run_folder
        self._logs_folder = logs_folder
        self._dialects = dialects
        self._console: ConsoleReader | None = None
        self._others: Companions | None = None

    @property
    def logs(self) -> Sequence[LogReader]:
        """What was read of other logs of the folder."""
        return self._others.readers if self._others is not None else ()

    @property
    def words(self) -> ConsoleWords | None:
        """What the console log of a run folder says; None where none was looked for yet."""
        return self._console.words if self._console is not None else None

    @property
    def is_behind(self) -> bool:
        """Whether there was more to read at the last poll."""
        return any(one is not None and one.is_behind for one in (self._console, self._others))

    def poll(self, until: float) -> tuple[bool, bool]:
        """Read what is new; tell whether there was anything, and whether it says more of the run.

        Args:
            until: when to stop, on the monotonic clock.

        Raises:
            OSError: a file is there and can't be read.
        """
        if self._run_folder is not None:
            if self._console is None:
                from orz_monitor.tail.console_reader import ConsoleReader  # noqa: PLC0415 - numpy, after the first picture

                self._console = ConsoleReader(self._run_folder / CONSOLE_FILE)
            new = self._console.poll(until)
            return new or self._console.is_behind, new
        if self._logs_folder is None:
            return False, False
        if self._others is None:
            from orz_monitor.tail.companions import Companions  # noqa: PLC0415 - numpy, after the first picture

            self._others = Companions(self._logs_folder, self._values, self._dialects)
        new = self._others.poll(until)
        return new, new

    def pause(self) -> bool:
        """Take the last lines of other logs as they stand; tells whether there is more to see."""
        return self._others is not None and self._others.pause()

    def close(self) -> None:
        """Close the files."""
        for one in (self._console, self._others):
            if one is not None:
                one.close()
