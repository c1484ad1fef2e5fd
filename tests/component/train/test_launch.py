"""What a run finds out before it starts anything."""

from __future__ import annotations

import re
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from orz_train import launch
from orz_train.config.load import load
from orz_train.errors import BackendMissingError

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
    monkeypatch.setattr(launch, "find_spec", lambda name: None if name == "vllm" else spec)
    config = load("quickstart", [f"cluster.num_gpus={num_gpus}", "cluster.num_ranks=1", "cluster.num_engines=1"]).config
    with pytest.raises(BackendMissingError, match="not installed: vllm") as caught:
        launch.run(config, run_dir=tmp_path / "run")
    assert caught.value.remedy is not None
    assert re.search(expected, caught.value.remedy)
    assert not (tmp_path / "run").exists()
