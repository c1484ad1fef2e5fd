"""The workers of one role, called together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from orz_train.cluster.errors import WorkerTimeoutError
from orz_train.cluster.watch import NO_LIMIT, QUIET_S, Deadline, Member, Watch, tails
from orz_train.ports import MetricSink

STREAM_AHEAD = 8
"""Batches that a stream's worker may be ahead of the driver."""


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A call on its way."""

    member: Member
    value: Any
    """Ref of what the method returns. It may be handed on to other workers without ever reaching the driver."""
    notes: Any
    """Ref of the worker's warnings, ready when the method is done."""
    doing: str
    """The method's name."""


class Group:
    """All workers of one role, in rank order.

    Args:
        role: of them.
        members: one for each rank.
        watch: over all workers of the run; while this group is waited for, the others are watched.
        sink: is told of the workers' warnings.
    """

    def __init__(self, role: str, members: Sequence[Member], watch: Watch, sink: MetricSink) -> None:
        self.role = role
        self.members = list(members)
        self.watch = watch
        self.sink = sink
        self._untold: dict[Any, Member] = {}
        """Warnings to come of calls that aren't waited for any more, as another one failed."""

    def __len__(self) -> int:
        return len(self.members)

    def call(self, method: str, *common: Any, limit: Deadline = NO_LIMIT, **named: Any) -> list[Any]:
        """Call a method with the same arguments on every rank; return the results in rank order.

        Raises:
            OrzError: a rank failed, any worker of the run ended, or the limit has passed.
        """
        return self.results(self.submit(method, *common, **named), limit)

    def scatter(
        self, method: str, arguments: Sequence[tuple[Any, ...]], *, limit: Deadline = NO_LIMIT, **named: Any
    ) -> list[Any]:
        """Call a method with other arguments on each rank; return the results in rank order.

        Raises:
            OrzError: a rank failed, any worker of the run ended, or the limit has passed.
        """
        pairs = zip(self.members, arguments, strict=True)
        return self.results([_submit(member, "call", method, *own, **named) for member, own in pairs], limit)

    def submit(self, method: str, *common: Any, **named: Any) -> list[Pending]:
        """Begin a call on every rank."""
        return [_submit(member, "call", method, *common, **named) for member in self.members]

    def submit_to(self, rank: int, method: str, *positional: Any, **named: Any) -> Pending:
        """Begin a call on one rank."""
        return _submit(self.members[rank], "call", method, *positional, **named)

    def run(self, function: str, arguments: Sequence[Mapping[str, Any]]) -> list[Pending]:
        """Begin to run a function, named `module:function`, on each rank."""
        return [_submit(m, "run", function, dict(own)) for m, own in zip(self.members, arguments, strict=True)]

    def apply(self, function: str, arguments: Sequence[Mapping[str, Any]]) -> list[Pending]:
        """Begin to run a function, named `module:function`, on the object of each rank."""
        return [_submit(m, "apply", function, dict(own)) for m, own in zip(self.members, arguments, strict=True)]

    def make(self, factory: str, arguments: Sequence[Mapping[str, Any]]) -> list[Pending]:
        """Begin to make the object of each rank, by a function named `module:function`."""
        return [_submit(m, "make", factory, dict(own)) for m, own in zip(self.members, arguments, strict=True)]

    def results(self, pending: Sequence[Pending], limit: Deadline = NO_LIMIT) -> list[Any]:
        """Wait for calls and fetch their values, in order.

        Raises:
            OrzError: a worker failed, any worker of the run ended, or the limit has passed.
        """
        self.finish(pending, limit)
        return [self.watch.get(one.value, {}) for one in pending]

    def finish(
        self,
        pending: Sequence[Pending],
        limit: Deadline = NO_LIMIT,
        *,
        progress: Callable[[int], None] = lambda _done: None,
    ) -> None:
        """Wait for calls; leave their values where they are.

        Without a limit they may take as long as they like, but the user hears of a long silence.

        Args:
            pending: calls, of this group or others.
            limit: for all of them.
            progress: is told how many are done.

        Raises:
            OrzError: a worker failed, any worker of the run ended, or the limit has passed.
        """
        waiting = {one.notes: one.member for one in pending}
        doing = ", ".join(dict.fromkeys(one.doing for one in pending))
        try:
            while waiting:
                progress(len(pending) - len(waiting))
                for ref in self._ready(waiting, limit, doing):
                    member = waiting.pop(ref)
                    self._tell(member, self.watch.get(ref, waiting))
        except BaseException:
            self._untold |= waiting
            self._tell_late()
            raise

    def unsettled(self, method: str, *common: Any, seconds: float) -> dict[Member, bool]:
        """Ask every rank whether something has ended, by a method that says so.

        For the way out of a failure: nothing is raised. A rank that fails, or is gone, has nothing under way.

        Returns:
            The ranks where it has not, or may not: whether each answered within `seconds`.
        """
        pending = self.submit(method, *common)
        refs = [one.value for one in pending]
        answered, _ = ray.wait(refs, num_returns=len(refs), timeout=seconds, fetch_local=False)
        self._untold |= {one.notes: one.member for one in pending if one.value in answered}
        self._tell_late()
        return {one.member: one.value in answered for one in pending if one.value not in answered or not _ended(one)}

    def streams(
        self, method: str, arguments: Sequence[tuple[Any, ...]], *, limit: Deadline = NO_LIMIT, **named: Any
    ) -> Iterator[Any]:
        """Call a method that yields on each rank; yield whatever comes, from whichever rank.

        Args:
            method: of the object.
            arguments: of each rank.
            limit: for all of it. Without one a long response may take as long as it likes, but the user hears of a
                long silence.
            named: arguments of all ranks.

        Raises:
            OrzError: a worker failed, any worker of the run ended, or the limit has passed.
        """
        waiting = {
            member.actor.stream.options(
                num_returns="streaming", _generator_backpressure_num_objects=STREAM_AHEAD
            ).remote(method, *own, **named): member
            for member, own in zip(self.members, arguments, strict=True)
        }
        while waiting:
            for stream in self._ready(waiting, limit, method):
                try:
                    ref = next(stream)
                except StopIteration:
                    del waiting[stream]
                    continue
                value, notes = self.watch.get(ref, {})
                self._tell(waiting[stream], notes)
                yield value

    def _ready(self, waiting: dict[Any, Member], limit: Deadline, doing: str) -> list[Any]:
        """Wait for at least one of the refs; without a limit, tell of each long silence and go on waiting."""
        while limit.seconds is None:
            try:
                return self.watch.ready(waiting, Deadline(QUIET_S))
            except WorkerTimeoutError:
                self._tell_silence(doing, list(waiting.values()))
        return self.watch.ready(waiting, limit)

    def _tell_silence(self, method: str, members: Sequence[Member]) -> None:
        """Say who has been at work for long, with the tails of their logs."""
        names = ", ".join(str(member.slot) for member in members)
        logs = ", ".join(str(member.log) for member in members)
        self.sink.event(
            "warning",
            role=self.role,
            message=f"nothing came of {method} for {QUIET_S:g} s; still at work: {names}; see {logs}",
            logs={str(member.slot): tail for member, tail in tails(members).items()},
        )

    def _tell(self, member: Member, notes: Sequence[str]) -> None:
        """Pass a worker's warnings on."""
        for note in notes:
            self.sink.event("warning", role=str(member.slot), message=f"{member.slot}: {note}")

    def _tell_late(self) -> None:
        """Pass on what has come of calls beside one that failed; what isn't there yet stays for the next time."""
        waiting = [*self._untold]
        for ref in ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)[0] if waiting else ():
            member = self._untold.pop(ref)
            with suppress(Exception):  # whatever fails here, the first failure is what the user has to see
                self._tell(member, ray.get(ref))


def _submit(member: Member, how: str, *positional: Any, **named: Any) -> Pending:
    value, notes = getattr(member.actor, how).options(num_returns=2).remote(*positional, **named)
    return Pending(member, value, notes, doing=str(positional[0]))


def _ended(answered: Pending) -> bool:
    """Read the answer of a rank, which is there."""
    try:
        return bool(ray.get(answered.value))
    except RayError:
        return True


def end(members: Sequence[Member], *, timeout_s: float) -> None:
    """Let workers close what they have, all at once and for so long at most; then kill them.

    A worker that fails or is gone already isn't waited for: nothing can be learned from it any more.
    """
    closing = [member.actor.close.remote() for member in members]
    if closing:
        ray.wait(closing, num_returns=len(closing), timeout=timeout_s, fetch_local=False)
    for member in members:
        ray.kill(member.actor)
