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


# --- of an adapter ----------------------------------------------------------------------------------------


CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 2, "rank_pattern": {"down": 1}}


def write(folder: Path, config: dict[str, Any] | None, tensors: Tensors | None = None) -> list[str]:
    """Write a base of zeros and an adapter, and return the command that merges both into `folder / "out"`."""
    (folder / "base").mkdir()
    (folder / "adapter").mkdir()
    base = {"up.weight": torch.zeros(2, 2), "down.weight": torch.zeros(1, 2)}
    safetensors.save_file(base, folder / "base" / "model.safetensors")
    safetensors.save_file(tensors or factors(), folder / "adapter" / "adapter_model.safetensors")
    if config is not None:
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return ["ckpt", "merge", str(folder / "base"), str(folder / "out"), "--lora", str(folder / "adapter"), "--json"]


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    return {entry["code"]: entry for entry in json.loads(capsys.readouterr().out)["findings"]}


@pytest.mark.parametrize("alpha", ["absent", None, 0])
@pytest.mark.parametrize("pattern", [{}, {"down": 5}])
def test_an_adapter_that_states_no_alpha(
    pattern: dict[str, int], alpha: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused with the option that serves; with it the alpha counts wherever none is stated."""
    stated = {} if alpha == "absent" else {"lora_alpha": alpha}
    command = write(tmp_path, {**CONFIG, **stated, "alpha_pattern": pattern})
    if alpha != 0 or not pattern:
        assert 1 == main(command)
        entry = found(capsys)["lora_alpha_lost"]
        assert ("error", True) == (entry["severity"], "--lora-alpha N" in entry["remedy"])
        assert ("lora_alpha is 0" if alpha == 0 else "lora_alpha is not stated") in entry["message"]
        assert not (tmp_path / "out").exists()
    assert 0 == main([*command, "--lora-alpha", "6"])
    assert "lora_alpha_lost" not in found(capsys)
    assert (times(6 / 2, UP), times(5 if pattern else 6, DOWN)) == loaded(tmp_path / "out")


def test_the_alpha_that_is_stated_changes_nothing(tmp_path: Path) -> None:
    """Given once more it is merged as without it: what is stated of single modules counts, 0 as well."""
    command = write(tmp_path, {**CONFIG, "lora_alpha": 6, "alpha_pattern": {"down": 5}})
    assert 0 == main([*command, "--lora-alpha", "6"])
    assert (times(6 / 2, UP), times(5, DOWN)) == loaded(tmp_path / "out")
    config = {**CONFIG, "lora_alpha": 6, "alpha_pattern": {"down": 0}}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    for out, option in (("plain", ()), ("given", ("--lora-alpha", "6"))):
        command[3] = str(tmp_path / out)
        assert 0 == main([*command, *option])
        assert (times(6 / 2, UP), times(0, DOWN)) == loaded(tmp_path / out)


@pytest.mark.parametrize("inside", [False, True])
def test_another_alpha_than_is_stated_is_refused(
    inside: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage, of an adapter and of factors inside a checkpoint: which of both counts, nobody could tell."""
    command = write(tmp_path, {**CONFIG, "lora_alpha": 0.5, "alpha_pattern": {"down": 5}})
    place = tmp_path / "adapter"
    if inside:
        place = (tmp_path / "adapter").rename(tmp_path / "lora_adapter")
        torch.save(wrapped(), tmp_path / "model.pt")
        command = ["ckpt", "merge", str(tmp_path / "model.pt"), str(tmp_path / "out")]
    assert 2 == main([*command, "--lora-alpha", "6"])
    said = capsys.readouterr()
    text = " ".join((said.out + said.err).split())
    assert f"--lora-alpha 6: {place / 'adapter_config.json'} says lora_alpha 0.5" in text
    assert "give that: --lora-alpha 0.5; to merge with another scale, change it there" in text
    assert not (tmp_path / "out").exists()
    assert 0 == main([*command, "--lora-alpha", "0.5"])
    assert (times(0.5 / 2, UP), times(5, DOWN)) == loaded(tmp_path / "out")


def test_an_adapter_without_its_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused with the option that serves; with it each pair of factors tells its rank, and what is assumed is said."""
    command = write(tmp_path, None)
    assert 1 == main(command)
    assert "--lora-alpha N" in found(capsys)["config_invalid"]["remedy"]
    assert not (tmp_path / "out").exists()
    assert 0 == main([*command, "--lora-alpha", "6"])
    entry = found(capsys)["config_invalid"]
    assert ("warn", True) == (entry["severity"], "as without `use_rslora`" in entry["message"])
    assert (times(6 / 2, UP), times(6 / 1, DOWN)) == loaded(tmp_path / "out")


def test_a_configuration_of_something_else_is_not_outvoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An alpha makes no LoRA of another kind of adapter."""
    command = write(tmp_path, {**CONFIG, "peft_type": "IA3"})
    assert 1 == main([*command, "--lora-alpha", "6"])
    assert "expected LORA" in found(capsys)["config_invalid"]["message"]


def test_factors_that_tell_no_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pair of which one factor has rank 2 and the other 1: no configuration is blamed where there is none."""
    tensors = {**factors(), f"{PREFIX}down.lora_A.weight": torch.ones(2, 2)}
    assert 1 == main([*write(tmp_path, None, tensors), "--lora-alpha", "6"])
    entry = found(capsys)["lora_unfit"]
    assert "its factors have rank 1 and 2, which have to be equal" in entry["message"]


def test_factors_of_several_ranks_inside_a_checkpoint(tmp_path: Path) -> None:
    """Beside which nothing is stated: each pair tells its own."""
    torch.save(wrapped(), tmp_path / "model.pt")
    assert 0 == main(["ckpt", "merge", str(tmp_path / "model.pt"), str(tmp_path / "out"), "--lora-alpha", "6"])
    assert (times(6 / 2, UP), times(6 / 1, DOWN)) == loaded(tmp_path / "out")
