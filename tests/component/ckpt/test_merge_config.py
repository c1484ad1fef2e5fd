"""The configuration beside merged weights: which one is written, and what of it the weights must keep."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.findings import Severity
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[Any]]
    TensorsOf = Callable[[Path], Tensors]
    Same = Callable[[Tensors, Tensors], bool]

pytestmark = pytest.mark.component


POLICY: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "torch_dtype": "float32",
}


def codes(findings: tuple[Any, ...]) -> list[str]:
    return [entry.code for entry in findings]


def test_config_comes_from_where_it_is_asked(model: Path, tmp_path: Path, tensors_of: TensorsOf, same: Same) -> None:
    """`config` wins over the checkpoint's own; `dtype`, as transformers 5 calls it, is set; the rest is untouched."""
    other = tmp_path / "other"
    other.mkdir()
    config = {**POLICY, "dtype": "float16", "marker": {"kept": [1]}}
    del config["torch_dtype"]
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (other / "tokenizer.json").write_text("mine", encoding="utf-8")
    (other / "model.safetensors").write_bytes(b"not copied")
    merge(open_source(model), tmp_path / "out", Options(config=other))

    written = json.loads((tmp_path / "out" / "config.json").read_bytes())
    assert {**config, "dtype": "float32"} == written
    assert "mine" == (tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8")
    assert same(tensors_of(model), tensors_of(tmp_path / "out"))


def test_no_config(model: Path, tmp_path: Path) -> None:
    """Without a configuration the weights are written with a warning, and verify: exit 0."""
    (model / "config.json").unlink()
    merged = merge(open_source(model), tmp_path / "out")

    assert (["config_missing"], Status.OK) == (codes(merged.findings), merged.status())
    assert ["manifest.json", "model.safetensors"] == sorted(entry.name for entry in (tmp_path / "out").iterdir())
    report = verify(tmp_path / "out")
    assert Status.OK is report.status()
    (remedy,) = (entry.remedy for entry in report.findings if entry.code == "config_missing")
    assert remedy.startswith(f"orz ckpt merge {model} OUT --config DIR ")


def test_a_config_of_another_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where shapes are not those of the configuration, that is an error which names the tensor and `--config`."""
    config = json.loads((model / "config.json").read_bytes())
    sound = tmp_path / "sound"
    sound.mkdir()
    shutil.copy(model / "config.json", sound)
    (model / "config.json").write_text(json.dumps({**config, "hidden_size": 32}), encoding="utf-8")
    merged = merge(open_source(model), tmp_path / "out")

    assert (Status.FAILED, False) == (merged.status(), merged.written)
    wrong = [entry for entry in merged.findings if entry.severity is Severity.ERROR]
    assert {"shape_differs"} == {entry.code for entry in wrong}
    assert all("--config" in entry.remedy for entry in wrong)
    assert 1 == main(["ckpt", "merge", str(model), str(tmp_path / "out")])
    assert "nothing was written" in capsys.readouterr().out
    assert not list(tmp_path.glob("out*"))
    assert Status.OK is merge(open_source(model), tmp_path / "out", Options(config=sound)).status()


def test_a_config_that_promises_more(model: Path, tmp_path: Path) -> None:
    """A layer that config.json has and the weights have not: a loader would make it up, so nothing is written."""
    config = json.loads((model / "config.json").read_bytes())
    layers = config["num_hidden_layers"]
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers + 1}), encoding="utf-8")
    merged = merge(open_source(model), tmp_path / "out")

    assert (Status.FAILED, False) == (merged.status(), merged.written)
    assert any(f"model.layers.{layers}." in entry.tensor for entry in merged.findings if entry.code == "tensor_missing")


@pytest.mark.parametrize("with_config", [True, False])
def test_one_shard_of_several(model: Path, tmp_path: Path, with_config: bool) -> None:
    """A shard alone is not all of a model: its folder is what to give, and no other configuration."""
    if not with_config:
        (model / "config.json").unlink()
    merged = merge(open_source(model / "model-00001-of-00002.safetensors"), tmp_path / "out")

    told = [entry for entry in merged.findings if entry.code in {"tensor_missing", "config_missing"}]
    assert {"tensor_missing" if with_config else "config_missing"} == {entry.code for entry in told}
    assert all(entry.remedy.endswith(f": orz ckpt merge {model} OUT") for entry in told)
    (model / "model-00001-of-00002.safetensors").rename(model / "part.safetensors")
    other = merge(open_source(model / "part.safetensors"), tmp_path / "other")
    assert any("--config" in entry.remedy for entry in other.findings)


def test_missing_config_folder(model: Path, tmp_path: Path) -> None:
    """A `--config` without config.json is wrong usage, found before anything is written."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"there is no config\.json"):
        merge(open_source(model), tmp_path / "out", Options(config=tmp_path / "empty"))

    assert not list(tmp_path.glob("out*"))
