"""DeepSpeed checkpoints whose files are broken, hostile or of something else: each is named, the rest is read."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.errors import HostileError
from orz_ckpt.readers.deepspeed import read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source

pytestmark = pytest.mark.component

STEP = "global_step2"
OPTIM = "zero_pp_rank_{}_mp_rank_00_optim_states.pt"
BUFFERS = {"seen", "mask", "norm.shift"}
FROZEN = {"norm.weight", "norm.bias", "second.weight"}


def only(source: Source) -> CkptFinding:
    (found,) = source.findings
    return found


def codes(source: Source) -> list[str]:
    return [entry.code for entry in source.findings]


@pytest.mark.parametrize("name", ["zero2", "zero3", "zero3-nodes"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_torn_shard_is_named(name: str, share: float, broken: Callable[[str], Path]) -> None:
    """A shard that ends early is an error at its path, and not a missing rank; the rest is still read."""
    path = broken(name)
    (file,) = (path / STEP).glob(f"*{OPTIM.format(1)}")
    os.truncate(file, int(file.stat().st_size * share))
    source = read(path, tag=STEP)
    assert ("shard_torn", str(file)) == (only(source).code, only(source).path)
    assert BUFFERS <= source.tensors.keys()
    assert "first.weight" not in source.tensors


def test_a_torn_model_file_leaves_no_names(broken: Callable[[str], Path]) -> None:
    """Both are said: the file is broken, and so nothing has a name."""
    path = broken("zero2")
    os.truncate(path / STEP / "mp_rank_00_model_states.pt", 1000)
    assert ["shard_torn", "model_states_missing"] == codes(read(path, tag=STEP))


@pytest.mark.parametrize("name", ["buffer_names", "norm.shift"])
def test_a_damaged_name_leaves_no_buffer_out_unsaid(name: str, broken: Callable[[str], Path]) -> None:
    """The older container has no checksums: numbers that have no name in the rest of the file are told."""
    path = broken("zero3-nodes")
    (file,) = (path / STEP).glob("*_rank_0_*model_states.pt")
    data = file.read_bytes()
    file.write_bytes(data.replace(name.encode(), name[:-1].encode() + b"~", 1))
    found = only(read(path, tag=STEP))
    assert ("tensors_unclaimed", str(file)) == (found.code, found.path)
    assert {"buffer_names": "3 of its tensors", "norm.shift": "1 of its tensors"}[name] == found.message[:16]


def test_what_was_on_nvme_is_not_in_the_shards(small: dict[str, Any]) -> None:
    """Empty sub-groups where weights should be are an error that says why, and never empty weights."""
    source = read(small["zero3"].checkpoint, tag="swapped")
    assert "weights_swapped" == only(source).code
    assert "the fp32 weights of ranks 0-1 were on NVMe" in only(source).message
    assert {*BUFFERS, *FROZEN, "spare.none", "spare.nothing"} == source.tensors.keys()


def test_a_conversion_that_was_cut_off_is_found(broken: Callable[[str], Path]) -> None:
    """`ds_to_universal` writes parameter by parameter and copies the model files last."""
    path = broken("zero2") / "universal"
    shutil.rmtree(path / "zero" / "embed.weight")
    found = only(read(path))
    assert "elements_differ" == found.code
    assert "1 of 4 parameters have no fp32.pt; the first is 'embed.weight'" == found.message
    os.truncate(path / "zero" / "scale" / "fp32.pt", 100)
    assert ["shard_torn", "elements_differ"] == codes(read(path))
    (path / "mp_rank_00_model_states.pt").unlink()
    assert ["shard_torn", "model_states_missing"] == codes(read(path))


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_hostile_shard_is_refused_and_runs_nothing(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """A pickle that calls a program raises the error of exit code 4, whichever file it is in."""
    path, canary = broken("zero2"), tmp_path / "canary"
    for name in (f"bf16_{OPTIM.format(0)}", "mp_rank_00_model_states.pt"):
        with zipfile.ZipFile(path / STEP / name, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"optimizer_state_dict": _Canary(canary)}, protocol=2))
            archive.writestr("archive/version", "3\n")
        with pytest.raises(HostileError, match="system"):
            read(path, tag=STEP)
    assert not canary.exists()


@pytest.mark.parametrize("value", [[], {"module": 3}, {"optimizer_state_dict": []}, {"optimizer_state_dict": {}}])
def test_a_file_of_something_else_is_no_shard(value: object, broken: Callable[[str], Path]) -> None:
    """A torch file that is not DeepSpeed's is a finding that says what was expected in it."""
    path = broken("zero2")
    with zipfile.ZipFile(path / STEP / f"bf16_{OPTIM.format(0)}", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
    found = only(read(path, tag=STEP))
    assert ("shard_torn", True) == (found.code, "expected" in found.message)
