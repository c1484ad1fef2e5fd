"""One engine over two processes."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from orz_train.cluster.placement import Slot
from orz_train.cluster.watch import _is_echo
from orz_train.cluster.worker import Failure

pytestmark = [pytest.mark.component, pytest.mark.full]


def test_two_processes_serve_one_model(write_model: Any, engine_config: Any, start_engine: Any, shake: Any) -> None:
    """Each takes its part of every bucket; log-probs are the trainer's, and nothing outlives the engine."""
    engine = start_engine(engine_config(write_model(tied=True), tensor_parallel=2))
    prompts = engine.prompts(("1+2=", "hello world"))
    model = engine.model()
    for version in range(2):
        engine.push(shake(model, version), version=version, max_bytes=100_000)
        assert engine.gap(engine.rollouts(prompts), model) < 1e-5
    family, shared = engine.belongings()
    assert len(family) > 2
    engine.call("close")
    engine.connection.close()
    assert engine.process.wait(timeout=120) == 0
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert not any(path.exists() for path in shared)


def test_a_killed_worker_process_is_named(write_model: Any, engine_config: Any, start_engine: Any, shake: Any) -> None:
    """At once, while the engine is idle; what the engine itself says at its next call names nobody."""
    engine = start_engine(engine_config(write_model(tied=True), tensor_parallel=2))
    pid, ended = engine.call("lose_worker", 1)
    assert (pid, -9) == (ended.pid, ended.exit_code)
    with pytest.raises(Exception, match=r"(?i)cancelled|executor failed") as caught:
        engine.push(shake(engine.model(), 0), version=0)
    failure = Failure(slot=Slot(role="engine", rank=0), at=0.0, line=str(caught.value), error=None)
    assert _is_echo(failure), "the driver waits for the one who has the name"
