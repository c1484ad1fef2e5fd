"""What Ray itself reports, where no worker has anything to say."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import (
    ActorUnavailableError,
    ActorUnschedulableError,
    ObjectLostError,
    OutOfMemoryError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from orz_train.cluster import watch
from orz_train.cluster.errors import ClusterError, WorkerDiedError, WorkerError
from orz_train.cluster.logs import Log
from orz_train.cluster.placement import Slot
from orz_train.cluster.reaper import Ending
from orz_train.cluster.worker import Failure, WorkerFailure

pytestmark = pytest.mark.component


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let refs be the errors that they hold, ready at once, and nobody wait for more."""

    def get(ref: Exception, timeout: float | None = None) -> None:
        raise ref

    def wait(refs: list[Any], **_options: Any) -> tuple[list[Any], list[Any]]:
        return refs, []

    monkeypatch.setattr(watch, "ray", SimpleNamespace(get=get, wait=wait))
    monkeypatch.setattr(watch, "GRACE_S", 0.1)
    monkeypatch.setattr(watch, "ENDING_S", 0.1)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OutOfMemoryError("Task was killed due to the node running low on memory.\nmore"), "low on memory."),
        (ObjectLostError("00", "here", "there"), "Failed to retrieve object 00"),
        (ActorUnavailableError("not now", None), "not now"),
    ],
)
def test_a_result_that_ray_lost(error: Exception, message: str) -> None:
    """The first line of what Ray says, and where to look; no traceback."""
    with pytest.raises(ClusterError, match=rf"^Ray: [^\n]*{message}[^\n]*\n  -> see logs/ray/ and logs/ray.log"):
        watch.Watch().get(error, {})


def member(log: Path, ended: Exception, *, rank: int = 1, **elsewhere: str) -> watch.Member:
    slot = Slot(role="critic", rank=rank)
    return watch.Member(slot=slot, actor=None, ended=ended, address="10.0.0.1", log=Log(path=log, **elsewhere))  # type: ignore[arg-type]  # strings


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeEnvSetupError("no such interpreter"), "no such interpreter"),
        (ActorUnschedulableError("its node went away"), "its node went away"),
        (watch.RayActorError(), "perhaps its node is down"),
    ],
)
def test_a_worker_that_never_was(tmp_path: Path, error: Exception, message: str) -> None:
    """It has left no trace of an ending; what Ray knows of it is said."""
    watched = watch.Watch()
    watched.members.append(member(tmp_path / "critic-1.log", error))
    with pytest.raises(WorkerDiedError, match=rf"critic rank 1 \(on 10.0.0.1\) ended without a trace: .*{message}"):
        watched.ready({}, watch.Deadline(None))


INSTALL = r"install on all nodes what the driver's environment has \(`orz doctor` names what doesn't fit\); "


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("PermissionError: [Errno 13] Permission denied: '/runs/first/logs'", ""),
        ("OSError: [Errno 28] No space left on device", ""),
        ("ModuleNotFoundError: No module named 'orz_train.cluster.worker'", INSTALL),
        ("ImportError: cannot import name 'Tensor' from 'torch'", INSTALL),
    ],
)
def test_a_worker_that_could_not_be_made_says_why(tmp_path: Path, line: str, remedy: str) -> None:
    """Its constructor raised: that is no end without a trace, and there may be no log."""
    error = watch.RayActorError(
        error_msg="The actor died because of an error raised in its creation task, ray::Worker.__init__()\n"
        f'  File "worker.py", line 60, in __init__\n    _redirect(log)\n{line}\n',
        actor_init_failed=True,
    )
    watched = watch.Watch()
    watched.members.append(member(tmp_path / "critic-1.log", error))
    with pytest.raises(
        WorkerError,
        match=rf"^critic rank 1 on 10.0.0.1 couldn't start: {re.escape(line)}; the last lines of its traceback:\n"
        r"[\s\S]*  \|     _redirect\(log\)\n[\s\S]*\n"
        rf"  -> {remedy}the traceback is in .*critic-1.log, if it got so far$",
    ):
        watched.ready({}, watch.Deadline(None))


@pytest.mark.parametrize(
    ("line", "remedy"), [("ValueError: 3", ""), ("ModuleNotFoundError: No module named 'vllm._C'", INSTALL)]
)
def test_what_a_worker_cannot_import_is_to_be_installed(tmp_path: Path, line: str, remedy: str) -> None:
    """Only then; whatever else it raised is in its log."""
    slot = Slot(role="critic", rank=1)
    failure = WorkerFailure(Failure(slot=slot, at=1.0, line=line, error=None))
    watched = watch.Watch()
    watched.members.append(member(tmp_path / "critic-1.log", RayTaskError("watch", "", failure)))
    with pytest.raises(WorkerError, match=rf"failed: {line}\n  -> {remedy}the traceback is in .*critic-1.log$"):
        watched.ready({}, watch.Deadline(None))


def ended(rank: int, at: int) -> str:
    return f"orz-train: critic rank {rank}, process {rank}, ended at {at} by signal 9 (SIGKILL)"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([ended(0, 7), ended(1, 5)], r"rank 1 \(process 1 .*\(SIGKILL\); then so did critic rank 0;"),
        (["", ended(1, 5)], r"rank 1 .*\(SIGKILL\); so did critic rank 0, without a trace and perhaps before;"),
        (["", ""], r"rank 0 \(on 10.0.0.1\) ended without a trace: perhaps its .* down; then so did critic rank 1;"),
    ],
)
def test_who_ended_first(tmp_path: Path, texts: list[str], words: str) -> None:
    """The earliest known; one without a trace may have been earlier."""
    watched = watch.Watch()
    for rank, text in enumerate(texts):
        (tmp_path / f"{rank}.log").write_text(text + "\n")
        watched.members.append(member(tmp_path / f"{rank}.log", watch.RayActorError(), rank=rank))
    with pytest.raises(WorkerDiedError, match=words):
        watched.ready({}, watch.Deadline(None))


KILLED_1 = r"critic rank 1 .* ended by signal 9 \(SIGKILL\); so did critic rank 0, without a trace and perhaps before;"


@pytest.mark.parametrize(
    ("node", "text", "words"),
    [
        ("gone", None, r"critic rank 0 .* without a trace: perhaps its node is down; .* of its log: it can't be read"),
        ("slow", None, KILLED_1),
        ("up", None, KILLED_1),
        ("up", "", KILLED_1),
    ],
)
def test_a_node_that_is_gone_was_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Any, text: str | None, words: str
) -> None:
    """It took its workers with it, and the others lost them; one that is there, or slow, has no such excuse."""
    killed = Ending(pid=1, at=5, how="by signal 9 (SIGKILL)")
    ends = [watch.LogEnd(text=text, node=node), watch.LogEnd(text="", ending=killed)]
    monkeypatch.setattr(watch, "read_ends", lambda _logs, *, ending_s: ends)
    watched = watch.Watch()
    gone = watch.RayActorError()
    watched.members.append(member(tmp_path / "0", gone, rank=0, node_id="2", address="10.0.0.2"))
    watched.members.append(member(tmp_path / "1", gone, rank=1))
    with pytest.raises(WorkerDiedError, match=words):
        watched.ready({}, watch.Deadline(None))


@pytest.mark.parametrize(
    ("node", "words"),
    [("up", "its node is up, so its parent process was perhaps killed, too"), ("slow", "didn't answer within 8 s")],
)
def test_a_worker_without_a_trace_on_a_node_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Any, words: str
) -> None:
    """What is known of the node is said."""
    monkeypatch.setattr(watch, "read_ends", lambda _logs, *, ending_s: [watch.LogEnd(text=None, node=node)])
    watched = watch.Watch()
    watched.members.append(member(tmp_path / "0", watch.RayActorError(), node_id="2", address="10.0.0.2"))
    with pytest.raises(WorkerDiedError, match=rf"ended without a trace: .*{words}; the last lines"):
        watched.ready({}, watch.Deadline(None))


@pytest.mark.parametrize("line", ["ValueError: of its own", "RuntimeError: Connection closed by peer"])
def test_who_failed_first_is_told_by_one_clock(tmp_path: Path, line: str) -> None:
    """Rank 0's node is 10 s ahead: it failed at 95 of the driver's clock, rank 1 at 100."""
    watched = watch.Watch()
    for rank, (at, ahead_s) in enumerate([(105.0, 10.0), (100.0, 0.0)]):
        slot = Slot(role="critic", rank=rank)
        failure = WorkerFailure(Failure(slot=slot, at=at, line=line, error=None))
        log = Log(path=tmp_path / f"critic-{rank}.log", ahead_s=ahead_s)
        raised = RayTaskError("watch", "", failure)
        watched.members.append(watch.Member(slot=slot, actor=None, ended=raised, address="10.0.0.1", log=log))
    with pytest.raises(WorkerError, match=f"^critic rank 0 on 10.0.0.1 failed: {line}"):
        watched.ready({}, watch.Deadline(None))
