"""Read logs: bytes in, a `Log` out.

Most lines of a log say nothing of interest, so a line costs a substring search and no more, unless a dialect's gate
is in it. Gates are searched in the whole chunk first: those that are not in it cost nothing per line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from orz_monitor.dialects import Dialect, known_dialects
from orz_monitor.log import Log, place
from orz_monitor.metric_like import is_metric_like
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, Splitter, without_torn_number
from orz_monitor.transport.needles import Needles

_FIRST_BYTES: Final = 256 << 10
"""Dialects learn from them what they read in bulk from then on."""
_KEPT_BYTES: Final = 4 << 20
"""glibc keeps for later what is freed in blocks up to the largest that ever was, and twice that in all. As long as that
is less than a batch needs, each batch gets new memory from the system, which clears it first."""
_MOST_BLANK: Final = 3
"""Lines of blanks that may stand between a bar and what belongs to it."""


class Reader:
    r"""Reads one stream of bytes, in chunks of any size, into a log.

    Args:
        log: where entries go; a new one by default.
        dialects: the dialects to try, in order; all known ones by default.
        path: what the bytes are from, for the log's files.
        before: the line above them, where they are not the first ones.
        earlier: what an earlier part of the same log, in another file, was read with.

    Example:
        >>> reader = Reader()
        >>> reader.feed(b"step:1 - actor/pg_loss:0.5")
        >>> reader.feed(b"00\n")
        >>> reader.log.entries[0].values.tolist()
        [0.5]
    """

    def __init__(
        self,
        log: Log | None = None,
        dialects: Sequence[type[Dialect]] | None = None,
        path: Path = Path("-"),
        *,
        before: bytes = b"",
        earlier: Sequence[Dialect] = (),
    ) -> None:
        self.log = log if log is not None else Log()
        self._facts = self.log.begin(path)
        self._splitter = Splitter()
        self._dialects = [kind() for kind in (known_dialects() if dialects is None else dialects)]
        known = {type(dialect): dialect for dialect in earlier}
        for dialect in self._dialects:
            if type(dialect) in known:
                dialect.go_on(known[type(dialect)])
        self._in_bulk = [dialect for dialect in self._dialects if dialect.bulk]
        self._gates = [(gate, order) for order, dialect in enumerate(self._dialects) for gate in dialect.gates]
        self._needles = Needles(gate for gate, _ in self._gates)
        self._before = before
        self._open: Dialect | None = None
        self._claimed = 0
        self._unfinished: bytes | None = None
        bytes(_KEPT_BYTES)  # freed at once

    @property
    def num_bytes(self) -> int:
        """How much was fed."""
        return self._splitter.num_bytes

    @property
    def is_open(self) -> bool:
        """Whether a dialect waits for the rest of a block of lines."""
        return self._open is not None

    @property
    def dialects(self) -> Sequence[Dialect]:
        """What it reads with."""
        return self._dialects

    @property
    def pending(self) -> bytes:
        """The line that is still being written."""
        return self._splitter.pending

    @property
    def is_unsure(self) -> bool:
        """Whether something of the last line is held back, since it may go on."""
        return any(dialect.is_unsure for dialect in self._dialects)

    def pause(self) -> None:
        """Take the last line as it stands: nothing has come for a while."""
        begun = len(self.log.entries)
        for dialect in self._dialects:
            dialect.pause(self.log)
        self.log.entries[begun:] = sorted(self.log.entries[begun:], key=place)

    def feed(self, chunk: bytes) -> None:
        """Read the lines that a chunk completes."""
        if not self._splitter.num_bytes and len(chunk) > _FIRST_BYTES:
            self._take(self._splitter.feed(chunk[:_FIRST_BYTES]))
            chunk = chunk[_FIRST_BYTES:]
        self._take(self._splitter.feed(chunk))

    def close(self) -> Log:
        """Read what stands behind the last newline but for a number at its end, and what dialects still hold."""
        if text := self._splitter.close():
            self._unfinished = text[:-1]
            self._take(without_torn_number(self._unfinished) + b"\n")
        for dialect in self._dialects:
            dialect.finish(self.log)
        self._note()
        return self.log

    def finish_block(self, following: Iterable[bytes]) -> int:
        """Read on to the last line of an open block, as far as one goes on; the line that ends it is not read.

        Args:
            following: the bytes behind those that were read, of which whole lines were.

        Returns:
            How many of these bytes were read.
        """
        begun, num_bytes, num_seen = len(self.log.entries), 0, 0
        before, number, between = self._before, self._facts.num_lines, list[Line]()
        for raw in _whole_lines(following):
            if not self.is_open or self.pending:
                break
            number, num_seen = number + 1, num_seen + len(raw) + 1
            line, before = Line(raw, number, before), raw
            if not self._is_of_block(line):
                between.append(line)
                continue
            for other in between:
                self._try(other, [order for gate, order in self._gates if gate in other.raw])
            between.clear()
            num_bytes, self._before, self._facts.num_lines = num_seen, raw, number
        self._splitter.num_bytes += num_bytes
        self._settle(begun)
        return num_bytes

    def _take(self, text: bytes) -> None:
        """Have dialects read what they read in bulk, and offer them the lines of the rest that hold their gates."""
        if not text:
            return
        for dialect in self._dialects:
            text = dialect.hide(text, self.log)
        batch = Batch(text, self._facts.num_lines + 1, self._before)
        begun = len(self.log.entries)
        self.log.offset = 0
        for dialect in sorted(self._in_bulk, key=lambda dialect: -self.log.votes[dialect.name]):
            if len(batch.where(dialect.bulk)):  # of which there is less, once whose most lines are has taken them
                dialect.scan(batch, self.log)
        self._offer(batch, self._hits(batch))
        self._facts.num_lines += batch.num_lines
        self._before = _line_before(text, len(text), self._before)
        self._settle(begun)

    def _settle(self, begun: int) -> None:
        """Have dialects add what they collected, and put what was added in order.

        Args:
            begun: how many entries there were before.
        """
        self.log.offset = 0
        for dialect in self._dialects:
            dialect.settle(self.log)
        entries = self.log.entries
        entries[begun:] = sorted(entries[begun:], key=place)  # what was read in bulk came first
        self._note()

    def _hits(self, batch: Batch) -> list[tuple[int, int]]:
        """Return where lines with gates begin, and whose gates they are, in order."""
        hits: list[tuple[int, int]] = []
        possible = self._needles.possible(batch.rest())
        for gate, order in self._gates:
            if gate in possible:
                begins, _, _ = batch.lines_of(batch.where(gate))
                hits += [(begin, order) for begin in dict.fromkeys(begins.tolist())]
        hits.sort()
        return hits

    def _offer(self, batch: Batch, hits: list[tuple[int, int]]) -> None:
        """Give each hit to its dialects, and the lines of an open block to whoever opened it."""
        text = batch.text
        start = at = 0
        while True:
            if self._open is None:
                if at == len(hits):
                    return
                start = hits[at][0]
            elif start == len(text):
                return
            end = text.find(b"\n", start)
            before = _line_before(text, start, batch.before)
            line = Line(text[start:end], batch.line_at(start), before)
            orders: list[int] = []
            while at < len(hits) and hits[at][0] == start:
                orders.append(hits[at][1])
                at += 1
            self.log.offset = 0
            if not self._is_of_block(line) and orders:  # without, it has no gate, or was read in bulk
                self._try(line, orders)
            start = end + 1

    def _try(self, line: Line, orders: list[int]) -> None:
        """Offer a line to dialects until one says that it is its own."""
        for order in dict.fromkeys(orders):
            dialect = self._dialects[order]
            self.log.offset = 0
            if dialect.read(self._as_seen_by(dialect, line), self.log):
                if dialect.more_open:
                    self._open, self._claimed = dialect, 0
                return
        self._facts.num_missed_lines += bool(orders) and is_metric_like(line.raw)

    def _is_of_block(self, line: Line) -> bool:
        """Give a line to the dialect with an open block, and tell whether it belonged to it."""
        dialect = self._open
        if dialect is None:
            return False
        self._claimed += 1
        belonged = dialect.more(self._as_seen_by(dialect, line), self.log)
        if dialect.more_open and self._claimed >= dialect.longest_block:
            dialect.cut(self.log)
            dialect.more_open = False
        if not dialect.more_open:
            self._open = None
        return belonged

    def _as_seen_by(self, dialect: Dialect, line: Line) -> Line:
        """Return a line as it is, or the unfinished one whole where no value of it is taken: a fault is words."""
        if self._unfinished is None or not dialect.always:
            return line
        return Line(self._unfinished, line.number, line.before)

    def _note(self) -> None:
        """Bring the facts of the file up to date."""
        self._facts.num_bytes = self._splitter.num_bytes
        self._facts.num_cut_lines = self._splitter.num_cut_lines


def _line_before(text: bytes, start: int, before: bytes) -> bytes:
    """Return the line before the one at `start`, or of blank ones, with which a bar is wiped out, the one before them.

    Args:
        text: whole lines.
        start: where one of them begins, or its length.
        before: the line before them all.
    """
    for _ in range(_MOST_BLANK):
        if start <= 0:
            return before
        end, start = start - 1, text.rfind(b"\n", 0, start - 1) + 1
        if not text[start:end].isspace():
            break
    return text[start:end]


def _whole_lines(stream: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream that end, without their newlines."""
    held = b""
    for chunk in stream:
        *lines, held = (held + chunk).split(b"\n")
        yield from lines


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
