"""What a run finds out before it starts anything."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from orz_cli.doctor.machine import Package
from orz_train import launch
from orz_train.backends import needs
from orz_train.backends.saved_state import require_fitting_state
from orz_train.config.load import load
from orz_train.config.schema import Config
from orz_train.errors import BackendMissingError, ConfigError, OrzError, RunFolderError

ConfigFor = Callable[..., Config]

pytestmark = pytest.mark.component


@pytest.mark.parametrize(
    ("num_gpus", "expected"),
    [(0, "pip install --extra-index-url https://[^ ]+ 'orz-train\\[cpu\\]'"), (1, "pip install 'orz-train\\[cuda\\]'")],
)
def test_a_missing_backend_is_named_with_the_line_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_gpus: int, expected: str
) -> None:
    """No other backend is taken instead, and no run folder is made."""
    spec = ModuleSpec("there", None)
    monkeypatch.setattr(needs, "find_spec", lambda name: None if name == "vllm" else spec)
    config = load("quickstart", [f"cluster.num_gpus={num_gpus}", "cluster.num_ranks=1", "cluster.num_engines=1"]).config
    with pytest.raises(BackendMissingError, match="not installed: vllm") as caught:
        launch.run(config, run_dir=tmp_path / "run")
    assert caught.value.remedy is not None
    assert re.search(expected, caught.value.remedy)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("backend", ["local", "cluster"])
def test_a_torchvision_for_another_torch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """No model could be imported beside it; that is said before anything starts, with the line to type."""
    found = {"torch": Package(version="2.13.0", build="cpu"), "torchvision": Package(version="0.28.0", build="cu130")}
    monkeypatch.setattr(needs, "packages", lambda: found)
    with pytest.raises(
        BackendMissingError, match=r"^torchvision 0.28.0 \(cu130\) beside torch 2.13.0 \(cpu\)"
    ) as caught:
        launch.run(load("quickstart", [f"backend={backend}"]).config, run_dir=tmp_path / "run")
    assert "pip uninstall -y torchvision" in str(caught.value.remedy)
    assert not (tmp_path / "run").exists()


def test_a_backend_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray without the names that are asked of it: its place and version are named, no run folder is made."""
    monkeypatch.delitem(sys.modules, "orz_train.cluster.run", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("__version__ = '1.0'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(needs, "installed_versions", lambda _: {"ray": "1.0", "vllm": None, "deepspeed": "0.19.8+x"})
    monkeypatch.setattr(needs, "pinned_versions", lambda: {"ray": "2.60.0", "vllm": "0.32.0", "deepspeed": "0.19.8"})
    with pytest.raises(BackendMissingError, match=r"backend: cluster can't be imported: .*[Rr]ay") as caught:
        launch.run(load("quickstart").config, run_dir=tmp_path / "run")
    assert f"ray is {tmp_path}/ray/__init__.py" in caught.value.message
    assert caught.value.message.endswith("made for: ray 1.0 (expected 2.60.0)")
    assert "orz-train[cpu]" in str(caught.value.remedy)
    assert not (tmp_path / "run").exists()


def test_workers_are_told_absolute_model_folders(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run in another working directory; hub names and shipped models stay as they are written."""
    told: list[Config] = []

    class Cluster:
        @staticmethod
        def start(config: Config, **_: object) -> Any:
            told.append(config)
            raise OrzError("far enough")

    module = ModuleType("orz_train.cluster.run")
    monkeypatch.setattr(module, "Cluster", Cluster, raising=False)
    monkeypatch.setitem(sys.modules, "orz_train.cluster.run", module)
    monkeypatch.setattr(needs, "find_spec", lambda _: ModuleSpec("there", None))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "model")
    models = ["policy.model=model", "critic.model=some/hub-name", "reference.model=shipped:sums-base"]
    with pytest.raises(OrzError, match="far enough"):
        launch.run(load("quickstart", models).config, run_dir=Path("run"))
    (config,) = told
    assert str(tmp_path / "model") == config.policy.model
    assert config.critic is not None
    assert ("some/hub-name", "shipped:sums-base") == (config.critic.model, config.reference.model)


def test_a_critic_that_nobody_uses_is_refused(
    tmp_path: Path, config_for: ConfigFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An algorithm of one's own without a critic and a critic section: no backend loads it, no other reserves a GPU."""
    (tmp_path / "no_critic.py").write_text(
        "from orz_train.algorithm import PPO\n\nclass Mine(PPO):\n    needs_critic = False\n", encoding="utf-8"
    )
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n' * 4, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = config_for(
        algorithm="no_critic:Mine",
        data={"source": None, "train": [str(tmp_path / "prompts.jsonl")], "template": "plain"},
    )
    with pytest.raises(ConfigError, match="critic: no_critic:Mine uses no critic") as caught:
        launch.load_inputs(config)
    assert "critic: null" in str(caught.value.remedy)
    assert not launch.load_inputs(config.model_copy(update={"critic": None})).algorithm.needs_critic


ON_TWO = {"backend": "cluster", "cluster": {"num_gpus": 0, "num_ranks": 2, "zero_stage": 3}}


def make_checkpoint(folder: Path, *names: str, zero_stage: int = 3) -> Path:
    """Write state files of these names, and the folder of the policy's weights."""
    for name in ("state", "policy"):
        (folder / name).mkdir(parents=True)
    for name in names:
        torch.save({"v": 1, "zero_stage": zero_stage, "moments": [torch.zeros(4)]}, folder / "state" / name)
    return folder


@pytest.mark.parametrize(
    ("names", "zero_stage", "over", "said"),
    [
        (["policy-rank-0-of-4.pt"], 3, ON_TWO, "by 4 ranks under ZeRO stage 3 .*, this run has 2 ranks under"),
        (["policy-rank-0-of-2.pt"], 2, ON_TWO, "by 2 ranks under ZeRO stage 2 .*has 2 ranks under ZeRO stage 3"),
        (["policy-optimizer.pt"], 0, ON_TWO, r"by one process \(backend: local\), this run has 2 ranks"),
        (["policy-rank-0-of-1.pt"], 3, {}, r"by 1 rank under .*, this run has one process \(backend: local\)"),
        (["policy-optimizer.pt"], 0, {"critic": {"optimizer": {"lr": 1e-3}}}, "the critic's .* saved by nobody"),
    ],
)
def test_state_cut_otherwise_is_refused_before_anything_starts(
    tmp_path: Path, config_for: ConfigFor, names: list[str], zero_stage: int, over: dict[str, Any], said: str
) -> None:
    """Another number of ranks, stage or backend: both are named, and the way to branch off."""
    checkpoint = make_checkpoint(tmp_path / "step_000001", *names, zero_stage=zero_stage)
    config = config_for(**over) if "critic" in over else config_for(**over).model_copy(update={"critic": None})
    with pytest.raises(RunFolderError, match=said) as caught:
        require_fitting_state(checkpoint, config)
    assert f"--resume never --run-dir NEW policy.model={checkpoint}/policy" in str(caught.value.remedy)


def test_state_cut_alike_is_taken(tmp_path: Path, config_for: ConfigFor) -> None:
    """Of either backend."""
    local = make_checkpoint(tmp_path / "local", "policy-optimizer.pt", "critic-optimizer.pt")
    require_fitting_state(local, config_for())
    cluster = make_checkpoint(tmp_path / "cluster", *(f"{role}-rank-0-of-2.pt" for role in ("policy", "critic")))
    require_fitting_state(cluster, config_for(**ON_TWO))


def test_a_run_refuses_state_that_does_not_fit(
    tmp_path: Path, config_for: ConfigFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run folder is made; a checkpoint that was given by a relative path is named by the absolute one."""
    step = make_checkpoint(tmp_path / "run" / "checkpoints" / "step_000001", "policy-rank-0-of-4.pt")
    (step / "state" / "trainer.json").write_text('{"step": 1}', encoding="utf-8")
    (step / "manifest.json").touch()
    monkeypatch.setattr(launch, "require_whole", lambda _: None)
    monkeypatch.chdir(tmp_path)
    config = config_for(
        reward={"function": "math"}, data={"source": None, "train": ["unused.jsonl"], "max_prompt_tokens": 32}
    )
    with pytest.raises(RunFolderError) as caught:
        launch.run(config, run_dir=Path("new"), resume="run/checkpoints/step_000001")
    assert caught.value.message.startswith(f"{step}: the policy's optimizer state was saved by 4 ranks")
    assert not Path("new").exists()
