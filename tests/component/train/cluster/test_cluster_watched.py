"""Whatever a run waits for, an engine that is killed meanwhile ends the wait: wired from the cluster to the trainer."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orz_train.checkpoint import RunCheckpoints, copying
from orz_train.cluster import node_parts, nodes, run
from orz_train.cluster.errors import WorkerDiedError
from orz_train.cluster.placement import Assignment, Bundle, Node, Slot
from orz_train.cluster.run import Cluster
from orz_train.cluster.watch import Watch
from orz_train.config.schema import Config
from orz_train.launch import Inputs, build_trainer
from orz_train.ports import Models
from orz_train.testing import MemorySink
from orz_train.trainer import Trainer
from orz_train.types import Prompt, Score

pytestmark = pytest.mark.component

UNNOTICED_S = 60.0
"""After which a wait that nobody ends fails."""
UNNOTICED = "nobody noticed the engine's end"
NONE: Any = None
PROMPTS = [Prompt(prompt_id=f"p{index}", text="", token_ids=(index + 1,), answer="") for index in range(2)]
ENGINE_1 = r"engine 1 \(process \d+ on this machine\) ended by signal 9 \(SIGKILL\)"


class Never:
    """A pool whose rewards never come."""

    def __init__(self) -> None:
        self.score: Future[Score] = Future()
        unnoticed = AssertionError(UNNOTICED)
        self.timer = threading.Timer(UNNOTICED_S, self.score.set_exception, [unnoticed])

    def submit(self, *_: object) -> Future[Score]:
        return self.score


class KillingSink(MemorySink):
    """Kills a process when nothing is missing but the rewards."""

    pid = 0

    def phase(self, name: str, done: int, total: int) -> None:
        if name == "reward":
            os.kill(self.pid, signal.SIGKILL)
        super().phase(name, done, total)


@pytest.fixture
def never() -> Iterator[Any]:
    never = Never()
    never.timer.start()
    yield never
    never.timer.cancel()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What no copy passes while it is closed."""
    gate = threading.Event()

    def copy(*_: object, **__: object) -> None:
        assert gate.wait(UNNOTICED_S), UNNOTICED
        raise copying.StoppedError

    monkeypatch.setattr(copying, "copy", copy)
    yield gate
    gate.set()


def test_a_killed_engine_ends_the_wait_for_rewards_and_for_copies(
    tmp_path: Path, fake_config: Callable[..., Config], fakes: Callable[..., Any], probe: Prompt, never: Any, gate: Any
) -> None:
    """Neither has anything to do with the engine; the trainer looks all the same."""
    config, sink = fake_config(), KillingSink()
    config = config.model_copy(
        update={"checkpoint": config.checkpoint.model_copy(update={"copy_to": "memory://bucket/runs"})}
    )

    def wait_for_both(models: Any) -> None:
        trainer = trainer_of(config, models, tmp_path, never, sink)
        models.weights.push(version=0)
        engines = models.generator.group
        (sink.pid,) = engines.results([engines.submit_to(1, "pid")])
        with pytest.raises(WorkerDiedError, match=ENGINE_1):
            trainer.collect.scored(PROMPTS, trainer.collect.sampling, step=1)
        saves = trainer.checkpoints
        assert isinstance(saves, RunCheckpoints)
        saves._copies.add([1])
        saves._copies.start()
        saves.save(2, skipped_in_a_row={})  # which waits for the copy first

    def go() -> None:
        with Cluster.start(config, run_dir=tmp_path, sink=sink, factories=fakes()) as cluster:
            wait_for_both(cluster.load(num_steps=1, checkpoint=None, probe=probe))

    with pytest.raises(WorkerDiedError, match=ENGINE_1):
        go()
    assert not [data for _, _, data in sink.events if UNNOTICED in str(data)], "the save itself found it, not the wait"


def trainer_of(config: Config, models: Models, run_dir: Path, rewards: Any, sink: MemorySink) -> Trainer:
    inputs = Inputs(
        tokenizer=NONE,
        prompts=SimpleNamespace(sha256=""),  # type: ignore[arg-type]  # what the trainer asks of it
        eval_sets={},
        num_too_long=0,
        algorithm=NONE,
        num_steps=1,
        start=None,
    )
    return build_trainer(config, inputs, models, run_dir, rewards, sink)


def test_a_killed_engine_ends_the_wait_for_a_node(
    tmp_path: Path, fake_config: Callable[..., Config], sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes that write checkpoints are given the watch over the run's workers."""
    there = [Node(node_id=name, address=f"10.0.0.{name}", cpus=1, gpus=0) for name in ("1", "2")]
    slots = [Slot(role="policy", rank=rank) for rank in range(2)]
    bundles = tuple(Bundle(gpus=0, slots=(slot,), cpus=1.0, node_group=slot.rank) for slot in slots)
    context = SimpleNamespace(get_node_id=lambda: "1")

    def ask(_node_id: str, function: str, _arguments: object) -> str:
        return function

    watches: list[Watch] = []

    def any_of(watch: Watch, refs: list[str], _timeout_s: float) -> list[str]:
        watches.append(watch)
        if refs == [nodes.NAME]:
            return refs
        raise WorkerDiedError("engine 1 ended by signal 9 (SIGKILL)")

    monkeypatch.setattr(run, "connected", lambda *_, **__: nullcontext(there))
    monkeypatch.setattr(run, "place", lambda *_: Assignment(bundles, tuple(there)))
    monkeypatch.setattr(run, "check_nodes", lambda _: {})
    monkeypatch.setattr(node_parts.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(nodes, "ask", ask)
    monkeypatch.setattr(nodes, "answer", lambda *_: SimpleNamespace(host="b"))
    monkeypatch.setattr(nodes, "call", lambda *_: SimpleNamespace(host="a"))
    monkeypatch.setattr(run.Logs, "begin", lambda *_, **__: None)
    monkeypatch.setattr(run, "_reserve", lambda _: None)
    monkeypatch.setattr(run, "remove_placement_group", lambda _: None)
    monkeypatch.setattr(Watch, "any_of", any_of)
    with Cluster.start(fake_config(address="auto"), run_dir=tmp_path, sink=sink) as cluster:
        assert ("a", "b") == cluster.nodes.names
        with pytest.raises(WorkerDiedError, match="engine 1 ended"):
            cluster.nodes.run("orz_ckpt.node.saving:place", {"b": {}}, timeout_s=120.0)
        assert [cluster.watch] * 2 == watches
