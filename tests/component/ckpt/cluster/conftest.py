"""Disks of several nodes, on this machine: halves of one checkpoint, and places where a run may be looked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orz_ckpt.cluster.fleet import Here, Node
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.findings import Status

POLICY = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PARTS = {
    1: ["config.json", "tokenizer.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"],
    2: ["model-00002-of-00002.safetensors"],
}


class TwoNodes(Here):
    """This machine twice; the second time there is nothing at `/data/`."""

    def __init__(self) -> None:
        self.nodes = (Node(name="n1"), Node(name="n2"))

    def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 1.0) -> Any:
        moved = {
            name: json.loads(json.dumps(one).replace("/data/", "/none/")) if name == "n2" else one
            for name, one in arguments.items()
        }
        return super().ask(call, moved, timeout_s=timeout_s)


def is_whole(folder: Path) -> bool:
    """Say whether the collected run has what both halves had, and every byte of it is right."""
    manifest = load(step_folder(folder, 50) / MANIFEST_NAME)
    found = {name.removeprefix("policy/") for name in manifest.files}
    return set(PARTS[1] + PARTS[2]) == found and Status.OK == verify(folder, require_manifest=True).status()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let home and working directory be this test's own, and no Ray run here."""
    monkeypatch.setattr("orz_ckpt.node.roots.processes", lambda: iter(()))
    monkeypatch.setattr("orz_ckpt.node.roots.raylets", list)
    monkeypatch.setattr("orz_ckpt.node.roots._homes", lambda: iter(()))
    # Not in the module itself, where fixtures make folders by it.
    monkeypatch.setattr("orz_ckpt.node.roots.tempfile", SimpleNamespace(gettempdir=lambda: str(tmp_path / "tmp")))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def two_nodes() -> TwoNodes:
    """Two nodes, of which the second has nothing at `/data/`."""
    return TwoNodes()


@pytest.fixture
def half(tmp_path: Path, make_model: Callable[..., Path]) -> Callable[..., Path]:
    """The function that commits one half of step 50 on a disk of its own, as nodes without a shared disk do."""
    model = make_model(tmp_path / "model", POLICY, shards=2)

    def commit(base: Path, part: int, *, attempt: str = "one") -> Path:
        with stage(step_folder(base, 50), attempt=attempt) as staged:
            policy = staged.path / "policy"
            policy.mkdir()
            for name in PARTS[part]:
                shutil.copyfile(model / name, policy / name)
            meta = {"nodes": ["n1", "n2"], "path": str(step_folder(base, 50))}
            staged.commit(step=50, roles={"policy": "policy"}, writer="t 1", node=f"n{part}", meta=meta)
        return base

    return commit


@pytest.fixture
def halves(tmp_path: Path, half: Callable[..., Path]) -> list[str]:
    """Two disks with a half of one checkpoint each."""
    return [str(half(tmp_path / f"disk{part}" / "run", part)) for part in (1, 2)]


@pytest.fixture(scope="session")
def whole() -> Callable[[Path], bool]:
    """The function that says whether a collected run is whole."""
    return is_whole
