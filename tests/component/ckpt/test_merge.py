"""Merging into a Hugging Face folder: the weights that are written, bit for bit, and what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from orz_ckpt.errors import CkptError
from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.merge.copy import budget
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source
from orz_ckpt.tensors.source import Source
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[Any]]
    TensorsOf = Callable[[Path], Tensors]
    Same = Callable[[Tensors, Tensors], bool]

pytestmark = pytest.mark.component


def codes(findings: tuple[Any, ...]) -> list[str]:
    return [entry.code for entry in findings]


def with_tie(source: Source, alias: str, name: str) -> Source:
    """Return a source of which `alias` is the same tensor as `name`."""
    tensors = {key: tensor for key, tensor in source.tensors.items() if key != alias}
    return replace(source, tensors=tensors, aliases={alias: name})


def test_one_file(model: Path, tmp_path: Path, tensors_of: TensorsOf, same: Same) -> None:
    """Two shards become one file with the same tensors, index left out, config and tokenizer kept; it verifies."""
    merged = merge(open_source(model), tmp_path / "out")

    assert (Status.OK, True, 1, 0) == (merged.status(), merged.written, merged.files, merged.kept)
    assert same(tensors_of(model), tensors_of(tmp_path / "out"))
    assert ["config.json", "manifest.json", "model.safetensors", "tokenizer.json"] == sorted(
        entry.name for entry in (tmp_path / "out").iterdir()
    )
    report = verify(tmp_path / "out")
    assert (Status.OK, []) == (report.status(), codes(report.findings))
    assert merged.tensors == report.tensors


def test_shards_and_index(model: Path, tmp_path: Path, tensors_of: TensorsOf) -> None:
    """Past the largest size a new file begins; the index names each tensor's file and the bytes of all."""
    expected = tensors_of(model)
    merged = merge(open_source(model), tmp_path / "out", Options(max_shard_bytes=4000))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_bytes())

    assert merged.files == len(list((tmp_path / "out").glob("model-*-of-*.safetensors")))
    assert merged.files > 2
    assert sum(array.nbytes for array in expected.values()) == index["metadata"]["total_size"]
    assert expected.keys() == index["weight_map"].keys()
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / "out" / file, "numpy") as opened:
            assert expected[name].tobytes() == opened.get_tensor(name).tobytes()
            assert {"format": "pt"} == opened.metadata()
    assert Status.OK is verify(tmp_path / "out").status()
    largest = max(array.nbytes for array in expected.values())
    assert all(
        sum(array.nbytes for array in load_file(file).values()) <= max(4000, largest)
        for file in (tmp_path / "out").glob("*.safetensors")
    )


def test_cast(model: Path, tmp_path: Path, tensors_of: TensorsOf) -> None:
    """As bfloat16 every float is the upper half of its float32, rounded; config.json says so; integers stay."""
    file = next(model.glob("model-00001*"))
    ids = np.arange(5, dtype=np.int64)
    save_file({**load_file(file), "position_ids": ids}, file)
    (model / "model.safetensors.index.json").unlink()
    save_file({**tensors_of(model)}, model / "model.safetensors")
    for shard in model.glob("model-*"):
        shard.unlink()
    expected = tensors_of(model)
    merge(open_source(model), tmp_path / "out", Options(dtype="BF16"))

    source = open_source(tmp_path / "out")
    assert ["BF16", "I64"] == sorted({tensor.dtype for tensor in source.tensors.values()})
    for name, tensor in source.tensors.items():
        block = tensor.pieces[0].block
        raw = block.path.read_bytes()[block.offset : block.offset + block.nbytes]
        if name == "position_ids":
            assert ids.tobytes() == raw
            continue
        bits = expected[name].view(np.uint32).astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        assert rounded.astype(np.uint16).tobytes() == raw
    assert "bfloat16" == json.loads((tmp_path / "out" / "config.json").read_bytes())["torch_dtype"]


@pytest.mark.parametrize("kept", ["lm_head.weight", "model.embed_tokens.weight"])
def test_tied(model: Path, tmp_path: Path, kept: str, tensors_of: TensorsOf, same: Same) -> None:
    """Of a tied pair the embedding is written and the head left out, whichever the source keeps; config.json ties."""
    other = {"lm_head.weight": "model.embed_tokens.weight"}.get(kept, "lm_head.weight")
    expected = tensors_of(model)
    expected["model.embed_tokens.weight"] = expected[kept]
    del expected["lm_head.weight"]
    merged = merge(with_tie(open_source(model), other, kept), tmp_path / "out")

    assert same(expected, tensors_of(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "config.json").read_bytes())["tie_word_embeddings"] is True
    assert [] == codes(merged.findings)
    with safe_open(tmp_path / "out" / "model.safetensors", "numpy") as opened:
        assert {"format": "pt", "lm_head.weight": "model.embed_tokens.weight"} == opened.metadata()
    assert Status.OK is verify(tmp_path / "out").status()


def test_tied_by_config_alone(model: Path, tmp_path: Path, tensors_of: TensorsOf) -> None:
    """Head and embedding that differ are not tied, whatever config.json says: a loader would drop the head."""
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}), encoding="utf-8")
    merged = merge(open_source(model), tmp_path / "out")

    assert ["tie_differs"] == codes(merged.findings)
    assert json.loads((tmp_path / "out" / "config.json").read_bytes())["tie_word_embeddings"] is False
    assert "lm_head.weight" in tensors_of(tmp_path / "out")


def test_critic(model: Path, tmp_path: Path, tensors_of: TensorsOf) -> None:
    """One score a token in place of the head makes it a token classifier of one label, which verifies as one."""
    tensors = tensors_of(model)
    del tensors["lm_head.weight"]
    tensors["score.weight"] = np.ones((1, 16), dtype=np.float32)
    critic = tmp_path / "critic"
    critic.mkdir()
    save_file(tensors, critic / "model.safetensors")
    merged = merge(open_source(critic), tmp_path / "out", Options(config=model))
    config = json.loads((tmp_path / "out" / "config.json").read_bytes())

    assert ["Qwen2ForTokenClassification"] == config["architectures"]
    assert {"0": "LABEL_0"} == config["id2label"]
    assert ["value_head"] == codes(merged.findings)
    assert Status.OK is verify(tmp_path / "out").status()


def test_a_value_head_of_orz(model: Path, tmp_path: Path, tensors_of: TensorsOf) -> None:
    """A head that no loader of Hugging Face knows is named after the class that has it."""
    tensors = tensors_of(model)
    del tensors["lm_head.weight"]
    tensors["value_head.weight"] = np.ones((1, 16), dtype=np.float32)
    critic = tmp_path / "critic"
    critic.mkdir()
    save_file(tensors, critic / "model.safetensors")
    merged = merge(open_source(critic), tmp_path / "out", Options(config=model))

    assert ["CriticModel"] == json.loads((tmp_path / "out" / "config.json").read_bytes())["architectures"]
    assert "value_head" in codes(merged.findings)


def test_a_step_folder(step: Path, tmp_path: Path, tensors_of: TensorsOf, same: Same) -> None:
    """A role of one of our step folders is merged with its step; the step itself names its roles."""
    merged = merge(open_source(step / "critic"), tmp_path / "out")

    assert (50, "orz-train 0.1.0") == (merged.source.step, merged.source.writer)
    assert 50 == load(tmp_path / "out" / MANIFEST_NAME).step
    assert same(tensors_of(step / "critic"), tensors_of(tmp_path / "out"))
    with pytest.raises(CkptError, match=r"holds 2 models: critic, policy"):
        open_source(step)


@pytest.mark.parametrize(
    ("jobs", "memory", "expected"),
    [
        (2, 64 << 20, (2, 4, 3 << 20)),
        (8, 64 << 20, (8, 10, 2 << 20)),
        (8, 16 << 20, (2, 4, 1 << 20)),
        (4, 0, (1, 2, 1 << 20)),
    ],
)
def test_memory_is_divided(jobs: int, memory: int, expected: tuple[int, int, int]) -> None:
    """Buffers shrink first, then threads; one thread with two buffers of 1 MiB always remains.

    A thread takes 3 MiB of its own, and a tile as large as a buffer: of 16 MiB, three would leave 7 MiB for three tiles
    and five buffers, and two leave 10 MiB for two and four.
    """
    limits = budget(jobs=jobs, max_memory_bytes=memory)

    assert expected == (limits.workers, limits.buffers, limits.chunk_bytes)


@pytest.mark.parametrize(("dtype", "remedy"), [("float32", "dtype='F32'"), ("int8", "dtype='keep'")])
def test_a_type_that_nothing_is_cast_to(dtype: str, remedy: str) -> None:
    """It is refused where it is given, with the name that is meant."""
    with pytest.raises(UsageError, match=f"dtype='{dtype}': expected keep, F64, F32, F16 or BF16") as caught:
        Options(dtype=dtype)

    assert remedy == caught.value.remedy
