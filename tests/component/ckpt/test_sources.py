"""What a path is taken for, what is said where it is nothing, and plain files of torch as sources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.errors import FormatError, HostileError, MissingPathError, NoWeightsError, SeveralError
from orz_ckpt.sources import detect, open_source, roles_in
from orz_ckpt.tensors.gather import Files, Gatherer
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.tensors.source import Source

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.component


def values(source: Source) -> dict[str, Any]:
    """Read all tensors with our reader, as torch's."""
    types = {"F32": torch.float32, "BF16": torch.bfloat16, "I64": torch.int64, "BOOL": torch.bool}
    found = {}
    with Files() as files:
        for name, tensor in source.tensors.items():
            data = bytearray(tensor.nbytes)
            Gatherer(files).read(tensor, 0, tensor.numel, memoryview(data))
            dtype = types[tensor.dtype]
            found[name] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            found[name] = found[name].reshape(tensor.shape)
    return found


def state_dict() -> dict[str, Any]:
    embed = torch.arange(12.0).reshape(4, 3)
    return {
        "model.embed_tokens.weight": embed,
        "lm_head.weight": embed,
        "turned": torch.arange(20.0).reshape(4, 5).t(),
        "every_other": torch.arange(64.0).reshape(8, 8)[::2, 1:7:3],
        "spread": torch.tensor([[1.0], [2.0]]).expand(2, 4),
        "half": torch.arange(7, dtype=torch.bfloat16),
        "ids": torch.arange(5),
        "flag": torch.tensor(data=True),
        "none": torch.zeros(0, 4),
    }


@pytest.mark.parametrize("below", [None, "state_dict", "model", "module"])
def test_a_file_of_torch(tmp_path: Path, below: str | None) -> None:
    """A state dict at the top or below a usual key: each tensor's numbers, one name for a tied pair, nothing else."""
    expected = state_dict()
    beside = {"optimizer": {"exp_avg": torch.ones(3)}, "epoch": 3}
    torch.save(expected if below is None else {below: expected, **beside}, tmp_path / "model.pt")
    source = open_source(tmp_path / "model.pt")

    assert ("torch", {"lm_head.weight": "model.embed_tokens.weight"}) == (source.format, source.aliases)
    del expected["lm_head.weight"]
    got = values(source)
    assert list(expected) == list(got)
    assert all(torch.equal(tensor, got[name]) for name, tensor in expected.items())


def test_shards_of_torch(tmp_path: Path) -> None:
    """`pytorch_model-*.bin` are read as their index says; one that is missing is an error with its name."""
    tensors = state_dict()
    del tensors["lm_head.weight"]
    names, files = list(tensors), ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    for number, file in enumerate(files):
        torch.save({name: tensors[name] for name in names[number::2]}, tmp_path / file)
    weight_map = {name: files[index % 2] for index, name in enumerate(names)}
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    source = open_source(tmp_path)

    assert () == source.findings
    got = values(source)
    assert tensors.keys() == got.keys()
    assert all(torch.equal(tensor, got[name]) for name, tensor in tensors.items())
    (tmp_path / files[1]).unlink()
    assert ["file_missing"] == [entry.code for entry in open_source(tmp_path).findings]
    (tmp_path / "pytorch_model.bin.index.json").unlink()
    assert ["index_invalid"] == [entry.code for entry in open_source(tmp_path).findings]


@pytest.mark.parametrize("below", ["state_dict", "module"])
def test_shards_of_torch_below_a_key(tmp_path: Path, below: str) -> None:
    """The index names tensors as they are loaded: what each shard holds below a key is compared, and nothing beside."""
    files = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4, dtype=torch.bfloat16)}
    for (name, tensor), file in zip(tensors.items(), files, strict=True):
        torch.save({below: {name: tensor}, "optimizer": {"exp_avg": torch.ones(3)}}, tmp_path / file)
    index = {"metadata": {"total_size": 24 + 8}, "weight_map": dict(zip(tensors, files, strict=True))}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    source = open_source(tmp_path)

    assert () == source.findings
    got = values(source)
    assert ["a", "b"] == list(got)
    assert all(torch.equal(tensor, got[name]) for name, tensor in tensors.items())
    torch.save({below: {"c": tensors["b"]}}, tmp_path / files[1])
    assert {("index_differs", "b"), ("index_differs", "c")} == {
        (entry.code, entry.tensor) for entry in open_source(tmp_path).findings
    }


def test_a_pickle_that_calls(tmp_path: Path) -> None:
    """A file that would run a command when torch loads it is refused, with exit 4, and nothing runs."""

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    torch.save({"w": torch.ones(2), "x": Hostile()}, tmp_path / "model.pt")
    with pytest.raises(HostileError, match="system") as caught:
        open_source(tmp_path / "model.pt")

    assert ExitCode.REFUSED is caught.value.exit_code
    assert not (tmp_path / "canary").exists()


def test_a_file_without_weights(tmp_path: Path) -> None:
    """A file of torch that holds no state dict is an error which says what it holds."""
    torch.save({"epoch": 3, "losses": [1.0]}, tmp_path / "a.pt")
    source = open_source(tmp_path / "a.pt")

    assert ["no_weights"] == [entry.code for entry in source.findings]
    assert "'epoch', 'losses'" in source.findings[0].message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.ones(3, 2), "a tensor without a name, F32 [3, 2]"),
        ([torch.ones(3)], "a list of 1"),
        ({0: torch.ones(3)}, "a dictionary without names"),
        (torch.optim.SGD, "a value"),
        (7, "a value, 7"),
    ],
)
def test_a_file_of_one_thing(value: object, said: str, tmp_path: Path) -> None:
    """What is no dictionary with names is called what its owner would call it."""
    torch.save(value, tmp_path / "a.pt")
    (found,) = open_source(tmp_path / "a.pt").findings

    assert ("no_weights", f"it holds no state dict: {said}") == (found.code, found.message[: len(said) + 24])


def test_a_torn_file(tmp_path: Path) -> None:
    """A file of torch that was cut off is an error, not an empty model."""
    torch.save(state_dict(), tmp_path / "a.pt")
    os.truncate(tmp_path / "a.pt", (tmp_path / "a.pt").stat().st_size // 2)
    with pytest.raises(FormatError):
        open_source(tmp_path / "a.pt")


def test_detect(model: Path, step: Path, tmp_path: Path) -> None:
    """Names alone say what a path is; a step folder with two roles is none of the formats, its roles are."""
    torch.save({}, tmp_path / "a.pt")

    assert "hf" == detect(model)
    assert "hf" == detect(model / "model-00001-of-00002.safetensors")
    assert "hf" == detect(step / "policy")
    assert detect(step) is None
    assert "torch" == detect(tmp_path / "a.pt")
    assert ["critic", "policy"] == list(roles_in(step))
    with pytest.raises(MissingPathError):
        detect(tmp_path / "nothing")


def test_only_records(tmp_path: Path) -> None:
    """A folder of JSON files is told apart from an unknown one: the weights are elsewhere, `locate` searches them."""
    for name in ("iter50_generation_results.json", "config.yaml", "metrics.jsonl"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    with pytest.raises(NoWeightsError, match="only records") as caught:
        open_source(tmp_path)

    assert ExitCode.INCONCLUSIVE is caught.value.exit_code
    assert f"orz ckpt locate {tmp_path} --ray" in caught.value.remedy
    assert "iter50_generation_results.json" in caught.value.message


def test_nothing_known(tmp_path: Path) -> None:
    """An empty folder, a foreign one and a foreign file are each exit 3, with what was found and what is accepted."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a\x1b[31m.h5").touch()
    (tmp_path / "weights.gguf").touch()
    for name, said in (("empty", "is empty"), ("foreign", r"a\\x1b\[31m.h5"), ("weights.gguf", "suffix .gguf")):
        with pytest.raises(NoWeightsError, match=said) as caught:
            open_source(tmp_path / name)
        assert caught.value.remedy


def test_a_run(run: Path, tmp_path: Path) -> None:
    """A run is no checkpoint: the error names its newest committed one."""
    with pytest.raises(SeveralError, match="is a run") as caught:
        open_source(run)

    assert str(run / "checkpoints" / "step_000030" / "policy") in caught.value.remedy
    assert ExitCode.USAGE is caught.value.exit_code


def test_an_uncommitted_step(step: Path) -> None:
    """A role of a step that was never committed is readable, with the error that says so."""
    (step / "manifest.json").unlink()
    source = open_source(step / "policy")

    assert "uncommitted" in [entry.code for entry in source.findings]
    assert source.tensors


def test_readers_are_imported_one_by_one(tmp_path: Path) -> None:
    """What is recognised as of DeepSpeed needs no reader of another format."""
    (tmp_path / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    code = f"""
import sys
from pathlib import Path
from orz_ckpt.sources import detect
print(detect(Path({str(tmp_path)!r})))
print(*(name for name in {["dcp", "deepspeed", "fsdp", "peft"]} if f"orz_ckpt.readers.{{name}}" in sys.modules))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert ["deepspeed", "deepspeed"] == said.split()
