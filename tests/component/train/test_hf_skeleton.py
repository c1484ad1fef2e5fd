"""A model's names and shapes without its weights, and where it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_train.backends import hf
from orz_train.errors import ConfigError, DataError
from orz_train.testing import write_tiny_model

pytestmark = pytest.mark.component


@pytest.mark.parametrize("tied", [False, True])
def test_a_skeleton_has_the_parameters_of_the_model(tmp_path: Path, *, tied: bool) -> None:
    """By name and shape, in order; a tied head isn't one of them."""
    folder = str(write_tiny_model(tmp_path / "model", tied=tied))
    skeleton = hf.load_skeleton(folder)
    model = hf.load_causal_lm(folder, dtype="float32")
    assert [(name, tuple(p.shape)) for name, p in model.named_parameters()] == list(skeleton.shapes.items())
    assert tied == ("lm_head.weight" not in skeleton.shapes)
    assert skeleton.vocab_size == 56


def test_a_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path as it is, one that comes with orz-train, a name of the hub in the local cache; never the network."""
    assert tmp_path == hf.local_folder(str(tmp_path))
    assert (hf.local_folder("shipped:sums-base") / "config.json").is_file()
    snapshot = tmp_path / "models--org--name/snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "models--org--name/refs"
    refs.mkdir()
    (refs / "main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path), raising=False)
    assert snapshot == hf.local_folder("org/name")
    with pytest.raises(DataError, match="org/other"):
        hf.local_folder("org/other")
    with pytest.raises(ConfigError, match="shipped:nothing"):
        hf.local_folder("shipped:nothing")
