"""Runs without models: what saves are small arrays, and nodes are folders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from orz_ckpt.entries import entry_of
from orz_ckpt.inventory import list_checkpoints
from orz_ckpt.manifest import FileEntry
from orz_ckpt.remote import Remote, RemoteError
from orz_train.backends.step_folder import make_part
from orz_train.checkpoint import RunCheckpoints
from orz_train.checkpoint.nodes import call
from orz_train.config.schema import Config
from orz_train.testing import MemorySink

PATIENCE_S = 60


class Disk:
    """Where a path of the run lies on a node: as it is on the first one, below a folder of its own on another."""

    def __init__(self, run_dir: Path, other: Path) -> None:
        self.run_dir = run_dir
        self.other = other

    def there(self, path: Path) -> Path:
        """Return the path on the other node."""
        return self.other / path.relative_to(self.run_dir)


class TwoNodes:
    """`a` is the driver's node; on `b` the run folder's path is another disk."""

    names: Sequence[str] = ("a", "b")
    flags = "--ray"

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.asked: list[tuple[str, str]] = []
        self.limits: dict[str, float | None] = {}

    def run(
        self,
        function: str,
        arguments: Mapping[str, Mapping[str, Any]],
        *,
        timeout_s: float | None = None,
        watched: bool = True,
    ) -> dict[str, Any]:
        assert watched != function.endswith(":withdraw"), "a dead engine ends every wait but that on the way out"
        self.asked += [(name, function.partition(":")[2]) for name in arguments]
        self.limits[function.partition(":")[2]] = timeout_s
        return {name: call(function, self._there(own) if name == "b" else own) for name, own in arguments.items()}

    def _there(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._there(item) for key, item in value.items()}
        if isinstance(value, Path):
            return self.disk.there(value)
        is_path = isinstance(value, str) and value.startswith(str(self.disk.run_dir))
        return str(self.disk.there(Path(value))) if is_path else value


class Ranks:
    """A model of two ranks, one on each node; the weights are the step's number.

    Args:
        disk: rank 1 writes to the other node's; None where both have one.
        replicated: rank 1 writes the weights, too.
    """

    def __init__(self, disk: Disk | None = None, *, replicated: bool = False) -> None:
        self.disk = disk
        self.replicated = replicated
        self.value = 0.0
        self.failures: list[Exception] = []
        self.copy = 0.0
        self.written: dict[str, FileEntry] = {}

    def save(self, folder: Path) -> dict[str, FileEntry]:
        self._weights(folder, self.value)
        return self._hashed(folder)

    def save_state(self, folder: Path) -> dict[str, FileEntry]:
        self._state(folder, self.value)
        return self._hashed(folder)

    def snapshot(self) -> None:
        self.copy = self.value

    def write_snapshot(self, folder: Path, state: Path) -> None:
        self._weights(folder, self.copy)
        self._state(state, self.copy)
        self.written = self._hashed(folder) | self._hashed(state)

    def finish_snapshot(self, timeout_s: float | None = None) -> dict[str, FileEntry]:
        if self.failures:
            raise self.failures.pop(0)
        return self.written

    def drop_snapshot(self) -> None:
        self.copy = -1.0

    def end_writing(self, timeout_s: float) -> list[str]:
        return []

    def _hashed(self, folder: Path) -> dict[str, FileEntry]:
        places = [folder, self.disk.there(folder)] if self.disk else [folder]
        files = [path for each in places if each.is_dir() for path in each.iterdir() if path.suffix != ".json"]
        found = [(f"{folder.name}/{path.name}", entry_of(path)) for path in files]
        # what two ranks wrote with other bytes is left to the commit, as `ClusterPolicy` leaves it
        return {
            name: entry for name, entry in found if all(other == (name, entry) for other in found if other[0] == name)
        }

    def _weights(self, folder: Path, value: float) -> None:
        if self.failures:
            raise self.failures.pop(0)
        for each in [folder, self.disk.there(folder)] if self.disk and self.replicated else [folder]:
            make_part(each)
            save_file({"w": np.full(1000, value, "<f4")}, each / "model.safetensors")

    def _state(self, folder: Path, value: float) -> None:
        for rank, each in enumerate([folder, self.disk.there(folder) if self.disk else folder]):
            make_part(each)
            torch.save({"rank": rank, "value": value}, each / f"policy-rank-{rank}-of-2.pt")


class Gate:
    """A store that answers when it is let: each write of a weights' file waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, only: str = "") -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        write = Remote.write

        def waiting(remote: Remote, name: str, data: Any) -> None:
            if name.endswith(".safetensors") and only in remote.at(name):
                self.entered.set()
                assert self.open.wait(PATIENCE_S)
            write(remote, name, data)

        monkeypatch.setattr(Remote, "write", waiting)

    def end(self) -> None:
        """Let all through, and wait for threads that were given up."""
        self.open.set()
        for thread in threading.enumerate():
            if thread.name == "checkpoint-copies":
                thread.join(PATIENCE_S)


class Down:
    """A store that refuses so many writes of weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int = 10**9) -> None:
        self.left = times
        write = Remote.write

        def refusing(remote: Remote, name: str, data: Any) -> None:
            if name.endswith(".safetensors") and self.left:
                self.left -= 1
                raise RemoteError(f"{remote.at(name)}: the store is down", remedy="wait")
            write(remote, name, data)

        monkeypatch.setattr(Remote, "write", refusing)


def make_config(**checkpoint: object) -> Config:
    return Config.model_validate(
        {
            "name": "test",
            "backend": "local",
            "steps": 4,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "data": {"source": "unused:unused"},
            "generation": {"max_response_tokens": 12},
            "policy": {"model": "unused", "optimizer": {"lr": 1e-3}},
            "packing": {"max_tokens_per_row": 64},
            "checkpoint": {"every_steps": 1, **checkpoint},
        }
    )


@pytest.fixture
def config() -> Callable[..., Config]:
    """Make a configuration; keyword arguments are its checkpoint's."""
    return make_config


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def save() -> Callable[[RunCheckpoints, Any, int], None]:
    """Save a step, whose number is what the weights are."""

    def call(checkpoints: RunCheckpoints, model: Any, step: int) -> None:
        model.value = float(step)
        checkpoints.save(step, skipped_in_a_row={})

    return call


@pytest.fixture
def told(sink: MemorySink) -> Callable[[str], list[tuple[int | None, dict[str, object]]]]:
    """Return step and data of all events of a name, in order."""
    return lambda name: [(step, data) for event, step, data in sink.events if event == name]


@pytest.fixture
def here(run_dir: Path) -> Callable[[], list[int]]:
    """Return the steps that are committed in the run folder."""
    return lambda: [one.step for one in list_checkpoints(run_dir) if one.committed]


@pytest.fixture
def disk(run_dir: Path, tmp_path: Path) -> Disk:
    return Disk(run_dir, tmp_path / "disk-of-b")


@pytest.fixture
def two_nodes(disk: Disk) -> TwoNodes:
    return TwoNodes(disk)


@pytest.fixture
def ranks() -> type[Ranks]:
    return Ranks


@pytest.fixture
def store(run_dir: Path, sink: MemorySink) -> Callable[..., RunCheckpoints]:
    """Make the store of a run; keyword arguments are the configuration's checkpoint's."""

    def make(
        model: Ranks, nodes: TwoNodes | None = None, check: Callable[[], None] = lambda: None, **checkpoint: object
    ) -> RunCheckpoints:
        return RunCheckpoints(run_dir, {"policy": model}, make_config(**checkpoint), sink, nodes=nodes, check=check)

    return make


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A closed one; no thread stays behind it."""
    gate = Gate(monkeypatch)
    yield gate
    gate.end()


@pytest.fixture
def gates() -> type[Gate]:
    return Gate


@pytest.fixture
def down() -> type[Down]:
    return Down
