"""`--lora-alpha`: the alpha of an adapter, or of factors inside a checkpoint, that is stated nowhere else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = pytest.mark.component

Tensors = dict[str, Any]
PREFIX = "base_model.model."


def factors(adapter: str = "") -> Tensors:
    """Return two updates by hand: `up` has rank 2, B @ A = [[3, 30], [0, 4]]; `down` rank 1, [[10, 20]]."""
    return {
        f"{PREFIX}up.lora_A{adapter}.weight": torch.tensor([[1.0, 10.0], [0.0, 1.0]]),
        f"{PREFIX}up.lora_B{adapter}.weight": torch.tensor([[3.0, 0.0], [0.0, 4.0]]),
        f"{PREFIX}down.lora_A{adapter}.weight": torch.tensor([[1.0, 2.0]]),
        f"{PREFIX}down.lora_B{adapter}.weight": torch.tensor([[10.0]]),
    }


UP, DOWN = [[3.0, 30.0], [0.0, 4.0]], [[10.0, 20.0]]


def wrapped() -> Tensors:
    """Return a model whose weights are all 0, with the factors inside, as peft wraps it."""
    base = {"up": torch.zeros(2, 2), "down": torch.zeros(1, 2)}
    return {f"{PREFIX}{name}.base_layer.weight": tensor for name, tensor in base.items()} | factors(".default")


def loaded(out: Path) -> tuple[list[list[float]], list[list[float]]]:
    tensors = safetensors.load_file(out / "model.safetensors")
    return tensors["up.weight"].tolist(), tensors["down.weight"].tolist()


def times(scale: float, matrix: list[list[float]]) -> list[Any]:
    return [pytest.approx([scale * number for number in row]) for row in matrix]


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_a_file_with_factors_inside(rank_stabilised: bool, name: str, tmp_path: Path) -> None:
    """Merged, as the warning of a merge says: alpha / rank; by the root of it where `lora_adapter/` beside it says."""
    path = tmp_path / "wrapped" / name
    path.parent.mkdir()
    tensors = {name: tensor for name, tensor in wrapped().items() if ".down.lora" not in name}
    (torch.save if name.endswith(".pt") else safetensors.save_file)(tensors, path)
    if rank_stabilised:
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 0, "use_rslora": True}
        (path.parent / "lora_adapter").mkdir()
        (path.parent / "lora_adapter" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert 0 == main(["ckpt", "merge", str(path), str(tmp_path / "out"), "--lora-alpha", "6"])
    assert (times(6 / 2**0.5 if rank_stabilised else 6 / 2, UP), [[0.0, 0.0]]) == loaded(tmp_path / "out")
