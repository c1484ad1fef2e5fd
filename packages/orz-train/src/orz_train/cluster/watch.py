"""Watching every worker of a run: when something breaks, name what broke first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from orz_train.cluster.errors import ClusterError, WorkerDiedError, WorkerError, WorkerTimeoutError
from orz_train.cluster.logs import ASK_S, ENDING_S, Log, LogEnd, indented, read_ends
from orz_train.cluster.placement import Slot
from orz_train.cluster.worker import Failure, WorkerFailure
from orz_train.errors import OrzError
from orz_train.limits import Limit

SEE_RAY = "see logs/ray/ and logs/ray.log in the run folder; of a cluster that was there before, `ray status`"
QUIET_S = 600.0
"""Without anything from whatever is waited for, after which the user is told, each time."""
GRACE_S = 3.0
"""Seconds to wait for the cause after a worker lost touch with another one."""
_LOST_TOUCH = ("connection", "gloo", "nccl", "peer", "timed out", "timeout", "socket", "cancelled", "executor failed")
"""Words of an exception that is likely the echo of another process's end; the last two are vLLM's."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Member:
    """A worker of the run, as the driver knows it."""

    slot: Slot
    actor: Any
    """Handle of the Ray actor."""
    ended: Any
    """Ref that is ready once its process is gone, or holds the failure of a call that another worker made."""
    address: str
    """Of its node, for people."""
    log: Log


class Deadline(Limit):
    """A time limit, and what to say when it has passed.

    Args:
        seconds: from now; None never passes.
        doing: what takes its time, as the beginning of a sentence.
        remedy: what to do about it.
    """

    def __init__(self, seconds: float | None, doing: str = "", *, remedy: str = "") -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.doing = doing
        self.remedy = remedy

    def error(self, late: Sequence[Member]) -> WorkerTimeoutError:
        """Name who is late, with the tails of their logs."""
        names = ", ".join(str(member.slot) for member in late)
        said = tails(late).items()
        shown = "".join(f"\n{member.slot}, the last lines of {member.log}:{tail}" for member, tail in said)
        return WorkerTimeoutError(
            f"{self.doing} took longer than {self.seconds:g} s; not done: {names}{shown}", remedy=self.remedy
        )


NO_LIMIT = Deadline(None)


class Watch:
    """All workers of a run."""

    def __init__(self) -> None:
        self.members: list[Member] = []

    def ready(self, refs: dict[Any, Member], deadline: Deadline) -> list[Any]:
        """Wait until one of `refs` is ready; return those that are.

        Args:
            refs: results to come, with the worker that each comes from.
            deadline: for the wait.

        Raises:
            OrzError: a worker has ended or failed another one, or the deadline has passed.
        """
        done = self.any_of([*refs], deadline.left(), others=refs)
        if not done:
            raise deadline.error(list(dict.fromkeys(refs.values())))
        return done

    def any_of(
        self, refs: Sequence[Any], timeout_s: float | None, *, others: dict[Any, Member] | None = None
    ) -> list[Any]:
        """Wait until one of `refs` is ready, whoever makes them; return those that are, none if the time has passed.

        Raises:
            OrzError: a worker has ended or failed another one.
        """
        ended = {member.ended for member in self.members}
        if not ended and not refs:
            return []
        done, _ = ray.wait([*ended, *refs], num_returns=1, timeout=timeout_s, fetch_local=False)
        if any(ref in ended for ref in done):
            raise self.explain(None, others or {})
        return done

    def check(self) -> None:
        """Look, without waiting, whether all workers are well.

        Raises:
            OrzError: a worker has ended or failed another one.
        """
        self.any_of([], 0)

    def get(self, ref: Any, others: dict[Any, Member]) -> Any:
        """Fetch a result that is ready.

        Raises:
            OrzError: the worker failed; the error is that of whichever failed first.
        """
        try:
            return ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, WorkerFailure):
                raise self.explain(cause.failure, others) from None
            raise ClusterError(f"Ray: {_last_line(cause)}", remedy=SEE_RAY) from error
        except RayError as error:  # the worker ended, was never started, or its result is lost
            raise self.explain(None, others, otherwise=_words_of(error)) from None

    def explain(self, first: Failure | None, others: dict[Any, Member], *, otherwise: str = "") -> OrzError:
        """Find out what went wrong first.

        A rank that ends breaks the connections of the others, whose exceptions may arrive before the news of its end.

        Args:
            first: the exception that arrived first, if it was one.
            others: results to come, with the worker that each comes from.
            otherwise: what Ray said, for the case that no worker has anything to say.
        """
        if first is not None and not _is_echo(first):
            return self._failed(first)
        failures = [first] if first is not None else []
        died: list[Member] = []
        end = time.monotonic() + GRACE_S
        waiting = dict(others)
        while not died and time.monotonic() < end:
            died = self._died()
            told = [failure for member in self.members for failure in _failure_of(member.ended)]
            failures += [failure for failure in told if failure not in failures]
            for ref in ray.wait([*waiting], num_returns=len(waiting), timeout=0.05)[0] if waiting else ():
                del waiting[ref]
                failures += _failure_of(ref)
            causes = [failure for failure in failures if not _is_echo(failure)]
            if causes:
                return self._failed(min(causes, key=self._at))
            time.sleep(0.02)
        if died:
            time.sleep(0.2)  # a second one may have died of the same, or have been first
            return _death(self._died())
        if not failures:
            return ClusterError(f"Ray: {otherwise}", remedy=SEE_RAY)
        return self._failed(min(failures, key=self._at))

    def _died(self) -> list[Member]:
        """Return the members whose process is gone."""
        ended = [m for m in self.members if ray.wait([m.ended], timeout=0, fetch_local=False)[0]]
        return [member for member in ended if not _failure_of(member.ended)]

    def _at(self, failure: Failure) -> float:
        """Return when a worker failed, in seconds since the Unix epoch, by the driver's clock."""
        ahead_s = {member.slot: member.log.ahead_s for member in self.members}
        return failure.at - ahead_s.get(failure.slot, 0.0)

    def _failed(self, failure: Failure) -> OrzError:
        """Make the error of a worker's exception."""
        if failure.error is not None:
            return failure.error
        member = next(member for member in self.members if member.slot == failure.slot)
        return WorkerError(
            f"{failure.slot} on {member.address} failed: {failure.line}",
            remedy=f"{_remedy_of(failure.line)}the traceback is in {member.log}",
        )


def tails(members: Sequence[Member]) -> dict[Member, str]:
    """Return the last lines of each worker's log, indented, each on a line of its own."""
    return {member: end.tail() for member, end in zip(members, read_ends([m.log for m in members]), strict=True)}


def _death(died: Sequence[Member]) -> OrzError:
    """Make the error of the worker that ended first."""
    for member in died:
        if (reason := _start_failure(member.ended)) is not None:
            line = _last_line(reason)
            return WorkerError(
                f"{member.slot} on {member.address} couldn't start: {line}; the last lines of its"
                f" traceback:{indented(str(reason))}",
                remedy=f"{_remedy_of(line)}the traceback is in {member.log}, if it got so far",
            )
    ends = dict(zip(died, read_ends([member.log for member in died], ending_s=ENDING_S), strict=True))
    member = min(died, key=lambda one: _order(ends[one]))
    known = [one for one in died if ends[one].ending is not None]
    later = ", ".join(str(one.slot) for one in died if one is not member and (one in known or member not in known))
    unknown = ", ".join(str(one.slot) for one in died if member in known and one not in known)
    return WorkerDiedError(
        f"{_how(member, ends[member])}{f'; then so did {later}' if later else ''}"
        f"{f'; so did {unknown}, without a trace and perhaps before' if unknown else ''}; the last lines of its log:"
        f"{ends[member].tail()}",
        remedy=f"see {member.log}; then go on from the last checkpoint: the same command with --run-dir of this run",
    )


def _order(end: LogEnd) -> float:
    """Return when a worker ended; a node that is gone is likely to have been first of all."""
    if end.ending is not None:
        return end.ending.at
    return float("-inf") if end.node == "gone" else float("inf")


def _how(member: Member, end: LogEnd) -> str:
    """Say which worker ended, where and how."""
    if end.ending is not None:
        return f"{member.slot} (process {end.ending.pid} on {member.address}) ended {end.ending.how}"
    guess = "perhaps its node is down"
    if end.node == "up":
        guess = "its node is up, so its parent process was perhaps killed, too"
    elif end.node == "slow":
        guess = f"its node didn't answer within {ASK_S:g} s"
    return f"{member.slot} (on {member.address}) ended without a trace: {_ray_says(member.ended) or guess}"


def _start_failure(ended: Any) -> RayActorError | None:
    """Return Ray's error of a worker that was never made, with the traceback; None if it was."""
    try:
        ray.get(ended, timeout=0)
    except RayActorError as error:
        return error if error.actor_init_failed else None
    except (RayError, GetTimeoutError):
        pass
    return None


def _failure_of(ref: Any) -> list[Failure]:
    """Return the failure that a ready ref holds, if it does."""
    try:
        ray.get(ref, timeout=0)
    except RayTaskError as error:
        return [error.cause.failure] if isinstance(error.cause, WorkerFailure) else []
    except (RayError, GetTimeoutError):
        return []
    return []


def _ray_says(ended: Any) -> str:
    """Return why a worker that left no trace ended, if Ray knows more than that it is gone."""
    try:
        ray.get(ended, timeout=0)
    except RayActorError:
        pass
    except RayError as error:
        return _words_of(error)
    return ""


def _remedy_of(line: str) -> str:
    """Return what to do about an exception of a worker beside reading its traceback, by its name; perhaps nothing."""
    if line.startswith(("ImportError:", "ModuleNotFoundError:")):
        return "install on all nodes what the driver's environment has (`orz doctor` names what doesn't fit); "
    return ""


def _is_echo(failure: Failure) -> bool:
    """Say whether an exception looks like the consequence of another worker's."""
    return failure.error is None and any(word in failure.line.lower() for word in _LOST_TOUCH)


def _words_of(error: BaseException) -> str:
    """Return the first two lines of what Ray says: the second one often has the reason."""
    return " ".join(str(error).strip().splitlines()[:2]) or type(error).__name__


def _last_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
