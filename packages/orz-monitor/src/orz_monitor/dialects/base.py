r"""What a dialect is: how one trainer prints its numbers, and what they mean.

To add one, subclass `Dialect`, and name the class in the entry point group `orz.monitor.dialects` of your package,
or give it to a command as `--dialect module:Class`.

Example:
    >>> class Mine(Dialect):
    ...     name = "mine"
    ...     gates = (b"STEP ",)
    ...     meanings = {"loss": Meaning("policy/loss"), "kl": Meaning("policy/kl_ref", estimator="k3")}
    ...
    ...     def read(self, line: Line, log: Log) -> bool:
    ...         words = line.segments[-1].body.split()  # STEP 12 loss=0.5 kl=0.01
    ...         pairs = [tuple(word.split(b"=", 1)) for word in words[2:]]
    ...         return log.add_pairs(self.name, pairs, line=line.number, step=int(words[1])) is not None
    >>> from orz_monitor.reading import read_chunks
    >>> read_chunks([b"STEP 12 loss=0.5 kl=0.01\n"], dialects=[Mine]).entries[0].values.tolist()
    [0.5, 0.01]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Self

from orz_monitor.dialects.numbering import entries_of
from orz_monitor.ledger import Ledger
from orz_monitor.log import Log
from orz_monitor.plan import Plan, plan_of
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.past import Past


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a raw key is.

    Attributes:
        name: canonical metric name, or `seconds/<phase>` for a phase of the step.
        scale: a raw value times this is the canonical one.
        offset: added after scaling: `Meaning("rollout/zero_variance_frac", scale=-1, offset=1)` for a share of
            groups with spread.
        estimator: how it was estimated, where that matters: `k1`, `k2`, `k3`, `abs`, `sampled`.
        rank: which of several keys with one meaning is taken where both were logged: the lowest.
        adds: values of several keys with this meaning add up, as parts of a phase do.
        zero_elsewhere: it is printed only where there is some of it: a step of the run without a value has 0.
        over: raw keys by whose sum in the same step a value is divided, as a count by all that are counted; without
            them, the key has no meaning.
        estimator_varies: whether a setting or the kind of trainer decides on that; `estimator` is then the usual one.
    """

    name: str
    scale: float = 1.0
    offset: float = 0.0
    estimator: str = ""
    rank: int = 0
    adds: bool = False
    zero_elsewhere: bool = False
    over: tuple[str, ...] = ()
    estimator_varies: bool = False


class Dialect:
    """How one trainer prints; an instance reads one part of one file.

    Attributes:
        name: short name, which `Run.framework` carries; no two dialects have the same.
        title: the trainer's name as its authors write it.
        gates: `read` gets the lines that hold one of these. As few as its lines can be told by, long and rare: each
            of them is one more search of every byte, at least of a log's first ones. Colours must not cut them.
        meanings: raw key to meaning; override `meaning` where keys have parts.
        missing: canonical name to how to have this trainer log it, one sentence.
        is_trainer: whether its lines are a training run's; engines and crashes are not.
        always: whether its gates are searched in every byte; those of others are searched now and then only, once
            the log was seen to be somebody else's.
        bulk: `scan` gets every batch of lines that holds this; for what makes up most of a log.
        bar_of_steps: name of its ticks that count the steps of the run; empty where it has none.
        has_whole_steps: whether it prints a step at once, in one line, and not piece by piece.
        longest_block: how many lines at most are given to `more`, so that a block without an end takes no whole log.
        more_open: set by `read` to be given the lines that follow, whatever they hold, through `more`.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    gates: ClassVar[tuple[bytes, ...]]
    meanings: ClassVar[Mapping[str, Meaning]] = MappingProxyType({})
    missing: ClassVar[Mapping[str, str]] = MappingProxyType({})
    is_trainer: ClassVar[bool] = True
    always: ClassVar[bool] = False
    bulk: ClassVar[bytes] = b""
    bar_of_steps: ClassVar[str] = ""
    has_whole_steps: ClassVar[bool] = False
    longest_block: ClassVar[int] = 1000

    def __init__(self) -> None:
        self.more_open = False

    def read(self, line: Line, log: Log) -> bool:
        """Read a line that holds one of the gates: by default each of its segments, by `read_segment`.

        Never raises, whatever the line holds. Beside `scan`, an override sets `log.offset` to that of the segment it
        is at, so that both put what they add in the order in which it stands on the line.

        Returns:
            Whether the line was this dialect's; others then don't see it.
        """
        understood = False
        for segment in line.segments:
            log.offset = segment.offset
            understood = self.read_segment(segment, line.number, log) or understood
        return understood

    def read_segment(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment of a line; override this, or `read` where segments belong together.

        An override never raises, whatever the segment holds.

        Args:
            segment: what stands between two carriage returns, without its prefixes.
            number: of the line in its file, from 1.
            log: what is read goes here.

        Returns:
            Whether the segment was this dialect's.

        Raises:
            NotImplementedError: neither this nor `read` is overridden.
        """
        raise NotImplementedError

    def more(self, line: Line, log: Log) -> bool:
        """Read a line that follows one where `more_open` was set; clear it at the end of the block.

        Override it where you set `more_open`. Lines of other processes may come between: compare `Segment.origin`. The
        reader clears `more_open` itself after `longest_block` lines, and calls `cut`.

        Returns:
            Whether the line belonged to the block; if not, it is read as any other.

        Raises:
            NotImplementedError: it is not overridden.
        """
        raise NotImplementedError("it set `more_open`, and has no `more`")

    def cut(self, log: Log) -> None:
        """Take note that a block is longer than any is read: no line of it will be given any more."""

    def go_on(self, earlier: Self) -> None:
        """Take over what an earlier part of the same log, in another file, tells of this one; called before all else.

        Args:
            earlier: has read that part to its end.
        """

    def look_back(self, past: Past) -> None:
        """Learn what is open where a part of a file begins that is read on its own; called before anything is read.

        Args:
            past: what stands before the part.

        Raises:
            OSError: the file can't be read.
        """

    def hide(self, text: bytes, log: Log) -> bytes:  # noqa: ARG002 - overrides need it
        """Return whole lines with those empty that nobody is to read, since the model wrote them, not the trainer.

        Called with each batch before anything is read of it, of any size, so what is open is to be remembered.

        Args:
            text: the lines; their number must not change.
            log: what was read before them.
        """
        return text

    def scan(self, batch: Batch, log: Log) -> None:
        """Read a batch of whole lines at once, and take out of it what was understood.

        Args:
            batch: the lines.
            log: where to add what is found.
        """

    def settle(self, log: Log) -> None:
        """Add what was only collected so far: a batch of lines is done, and someone may look at the log."""

    @property
    def is_unsure(self) -> bool:
        """Whether the last line may go on, so that something of it is held back from whoever looks at the log."""
        return False

    def pause(self, log: Log) -> None:
        """Add what is held back of the last line: nothing has come for a while. What still comes may replace it."""

    def finish(self, log: Log) -> None:
        """Take note that the input ended: add what is still being collected."""

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is, or None for one that this dialect does not know."""
        return self.meanings.get(key)

    def plan(self, log: Log) -> Plan | None:
        """Return what the bar of steps says of the steps to come, or None; called when steps have their numbers."""
        return plan_of(log, self.name, self.bar_of_steps) if self.bar_of_steps else None

    def number(self, log: Log) -> None:
        """Give a step to the rows that were printed without one.

        Called once on a fresh instance, if this dialect has entries. The default gives a row without a step the step
        of the row before it.

        Args:
            log: all that was read, its entries in order; set `step` of this dialect's, `entries_of(log, self.name)`,
                in place.
        """
        step: int | None = None
        for entry in entries_of(log, self.name):
            if hasattr(entry, "step"):
                if entry.step is None:
                    entry.step = step
                elif getattr(entry, "axis", "") == "":
                    step = entry.step

    def number_rows(self, ledger: Ledger) -> None:
        """Give a step to rows in bulk that were added without one; called once all dialects have had their `number`.

        Args:
            ledger: the rows of all dialects; set `step` in place.
        """
