"""What Ray itself reports, where no worker has anything to say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import (
    ActorUnavailableError,
    ActorUnschedulableError,
    ObjectLostError,
    OutOfMemoryError,
    RuntimeEnvSetupError,
)

from orz_train.cluster import watch
from orz_train.cluster.errors import ClusterError, WorkerDiedError, WorkerError
from orz_train.cluster.logs import Log
from orz_train.cluster.placement import Slot
from orz_train.cluster.reaper import Ending

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


def test_a_worker_that_could_not_be_made_says_why(tmp_path: Path) -> None:
    """Its constructor raised: that is no end without a trace, and there may be no log."""
    error = watch.RayActorError(
        error_msg="The actor died because of an error raised in its creation task, ray::Worker.__init__()\n"
        '  File "worker.py", line 60, in __init__\n    _redirect(log)\n'
        "PermissionError: [Errno 13] Permission denied: '/runs/first/logs'\n",
        actor_init_failed=True,
    )
    watched = watch.Watch()
    watched.members.append(member(tmp_path / "critic-1.log", error))
    with pytest.raises(
        WorkerError,
        match=r"^critic rank 1 on 10.0.0.1 couldn't start: PermissionError: \[Errno 13\] Permission denied: "
        r"'/runs/first/logs'; the last lines of its traceback:\n[\s\S]*  \|     _redirect\(log\)\n[\s\S]*-> ",
    ):
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"critic rank 0 .* without a trace: perhaps its node is down; .* of its log: it can't be read"),
        ("", r"critic rank 1 .* ended by signal 9 \(SIGKILL\); so did critic rank 0, without a trace"),
    ],
)
def test_a_node_that_does_not_answer_was_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, words: str
) -> None:
    """It took its workers with it, and the others lost them; one that answers has no such excuse."""
    ends = [watch.LogEnd(text=text), watch.LogEnd(text="", ending=Ending(pid=1, at=5, how="by signal 9 (SIGKILL)"))]
    monkeypatch.setattr(watch, "read_ends", lambda _logs, *, ending_s: ends)
    watched = watch.Watch()
    gone = watch.RayActorError()
    watched.members.append(member(tmp_path / "0", gone, rank=0, node_id="2", address="10.0.0.2"))
    watched.members.append(member(tmp_path / "1", gone, rank=1))
    with pytest.raises(WorkerDiedError, match=words):
        watched.ready({}, watch.Deadline(None))
