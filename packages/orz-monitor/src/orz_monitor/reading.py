"""Read logs: bytes in, a `Log` out.

Most lines of a log say nothing of interest, so a line costs a substring search and no more, unless a dialect's gate
is in it. Gates are searched in the whole chunk first: those that are not in it cost nothing per line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from orz_monitor.dialects import GENERIC, KNOWN, ORZ_TRAIN, Dialect, find_dialect, known_dialects
from orz_monitor.dialects.orz_train import FIRST_LINE
from orz_monitor.log import Log, Row
from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.lines import Line, Splitter
from orz_monitor.transport.opening import chunks

_LONGEST_BLOCK: Final = 1000
"""Lines that a dialect may claim after its own."""


class Reader:
    r"""Reads one stream of bytes, in chunks of any size, into a log.

    Args:
        log: where entries go; a new one by default.
        dialects: the dialects to try, in order; all known ones by default.
        path: what the bytes are from, for the log's files.

    Example:
        >>> reader = Reader()
        >>> reader.feed(b"step:1 - actor/pg_loss:0.5")
        >>> reader.feed(b"00\n")
        >>> reader.log.entries[0].values.tolist()
        [0.5]
    """

    def __init__(
        self, log: Log | None = None, dialects: Sequence[type[Dialect]] | None = None, path: Path = Path("-")
    ) -> None:
        self.log = log if log is not None else Log()
        self._facts = self.log.begin(path)
        self._splitter = Splitter()
        self._dialects = [kind() for kind in (known_dialects() if dialects is None else dialects)]
        self._gates = [(gate, order) for order, dialect in enumerate(self._dialects) for gate in dialect.gates]
        self._before = b""
        self._open: Dialect | None = None
        self._claimed = 0

    @property
    def is_open(self) -> bool:
        """Whether a dialect waits for the rest of a block of lines."""
        return self._open is not None

    @property
    def pending(self) -> bytes:
        """The line that is still being written."""
        return self._splitter.pending

    def feed(self, chunk: bytes) -> None:
        """Read the lines that a chunk completes."""
        self._take(self._splitter.feed(chunk), chunk)

    def close(self) -> Log:
        """Read what stands behind the last newline, and what dialects still hold."""
        rest = self._splitter.close()
        self._take(rest, b"")
        for dialect in self._dialects:
            dialect.finish(self.log)
        self._note()
        return self.log

    def _take(self, lines: list[bytes], chunk: bytes) -> None:
        """Offer lines to the dialects whose gates they hold."""
        if not lines:
            return
        first = lines[0]
        hits = [
            (index, order)
            for gate, order in self._gates
            if gate in chunk or gate in first
            for index, line in enumerate(lines)
            if gate in line
        ]
        hits.sort()
        self._offer(lines, hits)
        self._facts.num_lines += len(lines)
        self._before = lines[-1]
        self._note()

    def _offer(self, lines: list[bytes], hits: list[tuple[int, int]]) -> None:
        """Give each hit to its dialects, and the lines of an open block to whoever opened it."""
        base = self._facts.num_lines + 1
        index = at = 0
        while True:
            if self._open is None:
                if at == len(hits):
                    return
                index = hits[at][0]
            elif index == len(lines):
                return
            line = Line(lines[index], base + index, lines[index - 1] if index else self._before)
            start = at
            while at < len(hits) and hits[at][0] == index:
                at += 1
            if not self._is_of_block(line):
                self._try(line, [order for _, order in hits[start:at]])
            index += 1

    def _try(self, line: Line, orders: list[int]) -> None:
        """Offer a line to dialects until one says that it is its own."""
        for order in dict.fromkeys(orders):
            dialect = self._dialects[order]
            if dialect.read(line, self.log):
                if dialect.more_open:
                    self._open, self._claimed = dialect, 0
                return

    def _is_of_block(self, line: Line) -> bool:
        """Give a line to the dialect with an open block, and tell whether it belonged to it."""
        dialect = self._open
        if dialect is None:
            return False
        self._claimed += 1
        belonged = dialect.more(line, self.log)
        if not dialect.more_open or self._claimed >= _LONGEST_BLOCK:
            dialect.more_open = False
            self._open = None
        return belonged

    def _note(self) -> None:
        """Bring the facts of the file up to date."""
        self._facts.num_bytes = self._splitter.num_bytes
        self._facts.num_cut_lines = self._splitter.num_cut_lines


def read_chunks(
    stream: Iterable[bytes],
    *,
    log: Log | None = None,
    dialects: Sequence[type[Dialect]] | None = None,
    path: Path = Path("-"),
) -> Log:
    """Read a whole stream of bytes."""
    reader = Reader(log, dialects, path)
    for chunk in stream:
        reader.feed(chunk)
    return reader.close()


def read_log(paths: Sequence[str], dialects: Sequence[type[Dialect]] | None = None) -> tuple[Log, list[type[Dialect]]]:
    """Read files, one after the other, into one log.

    A log in which no dialect finds a number is read again by the fallback.

    Args:
        paths: files, URLs, or `-` for standard input.
        dialects: the dialects to try, in order; all known ones by default.

    Returns:
        The log, and the dialects that its entries may be of.

    Raises:
        UnreadableRunError: a file can't be read, or is no text.
    """
    kinds = list(known_dialects() if dialects is None else dialects)
    log = Log()
    for path in paths:
        _read_file(path, log, kinds)
    if dialects is None and not any(isinstance(entry, Row) for entry in log.entries) and "-" not in paths:
        again = Log()
        kinds = [find_dialect(GENERIC), *kinds]
        for path in paths:
            _read_file(path, again, kinds)
        log = again
    return log, [*kinds, find_dialect(ORZ_TRAIN)] if dialects is None else kinds


def _read_file(path: str, log: Log, kinds: Sequence[type[Dialect]]) -> None:
    """Read one file; a console log of ours is told by its first line."""
    reader: Reader | None = None
    for chunk in chunks(path):
        if reader is None:
            ours = without_escapes(chunk[:200]).startswith(FIRST_LINE)
            chosen = [find_dialect(ORZ_TRAIN), find_dialect(KNOWN["crashes"])] if ours else kinds
            reader = Reader(log, chosen, Path(path))
        reader.feed(chunk)
    (reader or Reader(log, kinds, Path(path))).close()
