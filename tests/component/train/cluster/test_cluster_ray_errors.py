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
from orz_train.cluster.errors import ClusterError, WorkerDiedError
from orz_train.cluster.placement import Slot

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
    watched.members.append(
        watch.Member(
            slot=Slot(role="critic", rank=1),
            actor=None,
            ended=error,
            address="10.0.0.1",
            log=tmp_path / "critic-1.log",
            log_start=0,
        )
    )
    with pytest.raises(WorkerDiedError, match=rf"critic rank 1 \(on 10.0.0.1\) ended without a trace: .*{message}"):
        watched.ready({}, watch.Deadline(None))
