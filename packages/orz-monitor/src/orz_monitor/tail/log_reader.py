"""A console log of any trainer read piece by piece, as it grows."""

from __future__ import annotations

import copy
import time
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from orz_monitor.dialects import ORZ_TRAIN, Dialect, find_dialect, known_dialects, with_fallback
from orz_monitor.dialects.generic.dialect import Generic
from orz_monitor.log import Entry, Log, Row
from orz_monitor.precisions import Precisions
from orz_monitor.reading import Reader
from orz_monitor.rotation import age
from orz_monitor.run import Run
from orz_monitor.stitch import stitch

if TYPE_CHECKING:
    from orz_monitor.console_events import ConsoleWords

QUIET_S: Final = 0.2
"""After a line that may go on, until it is taken as it stands: who wraps a line writes its pieces at once."""


class LogReader:
    """Takes the bytes of a log in pieces of any size and says at any time what the run is.

    As in `read_log`, the fallback dialect counts only while no trainer's has found a number, and where no dialects were
    named.

    Args:
        path: the log.
        folder: the folder that was named, or None.
        dialects: the dialects to read with; None for all known ones.

    Attributes:
        path: the log.
        reader: reads it with the dialects of trainers.
        fallback: reads it with the fallback dialect, too; None once a trainer's has found a number.
    """

    has_parts: ClassVar[bool] = True

    def __init__(self, path: Path, folder: Path | None, dialects: Sequence[type[Dialect]] | None = None) -> None:
        self.path = path
        self._folder = folder
        self._kinds = list(known_dialects() if dialects is None else dialects)
        self.reader = Reader(dialects=self._kinds, path=path)
        self.fallback: Reader | None = (
            Reader(dialects=with_fallback(self._kinds), path=path) if dialects is None else None
        )
        self._fed_at = self._line_at = 0.0

    @property
    def num_lines(self) -> int:
        """How many lines were read, one that has not ended yet with them."""
        return sum(facts.num_lines for facts in self.reader.log.files) + bool(self.reader.pending)

    @property
    def num_alike(self) -> int:
        """How many lines look like those of a trainer whose dialect nobody knows, and are too few to be sure."""
        dialects = self.fallback.dialects if self.fallback is not None else ()
        return max((dialect.num_alike for dialect in dialects if isinstance(dialect, Generic)), default=0)

    def feed(self, data: bytes) -> None:
        """Take more of the log."""
        self.reader.feed(data)
        self._fed_at = time.monotonic()
        if b"\n" in data:
            self._line_at = self._fed_at
        if not self._is_of_trainer() and self.fallback is not None:
            self.fallback.feed(data)

    def next_file(self, path: Path) -> None:
        """Take note that what follows is of another file: an earlier part, the log after one, or a new file of its."""
        self.reader = _next_reader(self.reader, self._kinds, path)
        if self.fallback is not None:
            self.fallback = _next_reader(self.fallback, with_fallback(self._kinds), path)

    def note(self, problem: str) -> None:
        """Take note of what can't be read of the log, in words."""
        self.reader.log.unread.append(problem)
        if self.fallback is not None:
            self.fallback.log.unread.append(problem)

    def pause(self) -> bool:
        """Take the last line as it stands if nothing came behind it for a while; tells whether there is more to see.

        A progress bar that is drawn behind it counts as nothing.
        """
        since = self._line_at if b"\r" in self.reader.pending else self._fed_at
        if not self.reader.is_unsure or time.monotonic() - since < QUIET_S:
            return False
        self.reader.pause()
        self._is_of_trainer()
        return True

    def _is_of_trainer(self) -> bool:
        """Tell whether a trainer's dialect has found a number; the fallback is not needed any more then."""
        if any(self.reader.log.votes[kind.name] for kind in self._kinds if kind.is_trainer):
            self.fallback = None
            return True
        return False

    def snapshot(
        self,
        others: Sequence[LogReader] = (),
        words: ConsoleWords | None = None,  # noqa: ARG002 - only a reader of records lacks words
    ) -> Run:
        """Return the run that this log, and others of other processes, tell as far as they were read.

        While the last line may go on, its step is complete when it has what the steps before it had.
        """
        readers = sorted((self, *others), key=lambda reader: age(reader.path))
        generic = all(reader.fallback is not None for reader in readers)
        logs = [reader.fallback if generic and reader.fallback else reader.reader for reader in readers]
        run = stitch(
            joined([reader.log for reader in logs]),
            name=(self._folder or self.path).resolve().name,
            path=readers[0].reader.log.files[0].path if others else self.path,
            folder=self._folder,
            now=time.time(),
            dialects=[*(with_fallback(self._kinds) if generic else self._kinds), find_dialect(ORZ_TRAIN)],
        )
        earlier = () if others else tuple(file for file in run.files if file != self.path)
        is_unsure = any(one.reader.is_unsure for one in readers)
        return replace(run, earlier=earlier, has_whole_steps=run.has_whole_steps and not is_unsure)


def _next_reader(reader: Reader, kinds: Sequence[type[Dialect]], path: Path) -> Reader:
    """Return what reads on in another file, into the same log; a file of which nothing was read is none of its."""
    if reader.num_bytes:
        reader.close()
    else:
        reader.log.files.pop()
    return Reader(reader.log, kinds, path, earlier=reader.dialects)


def joined(logs: Sequence[Log]) -> Log:
    """Return one log of several files, copied as far as stitching changes it: it numbers rows and converts values."""
    whole = copy.copy(logs[0])
    whole.files, whole.entries, whole.bulk, whole.votes = [], [], [], logs[0].votes.copy()
    whole.unread = [problem for log in logs for problem in log.unread]
    whole.texts = set(logs[0].texts)
    whole.refused_keys = set(logs[0].refused_keys)
    whole.precisions = Precisions({key: copy.copy(precision) for key, precision in logs[0].precisions.items()})
    for index, log in enumerate(logs):
        first = len(whole.files)
        whole.files += log.files
        whole.entries += [_entry_copy(entry, first + entry.file) for entry in log.entries]
        whole.bulk += [replace(rows, file=first + rows.file) for rows in log.bulk]
        if index:
            whole.votes.update(log.votes)
            whole.texts |= log.texts
            whole.refused_keys |= log.refused_keys
            for key, precision in log.precisions.items():
                if key in whole.precisions:
                    whole.precisions[key].merge(precision)
                else:
                    whole.precisions[key] = copy.copy(precision)
    return whole


def _entry_copy(entry: Entry, file: int) -> Entry:
    """Copy an entry, with values of its own, as one of the file of this number."""
    copied = copy.copy(entry)
    copied.file = file
    if isinstance(copied, Row):
        copied.values = array("d", copied.values)
    return copied
