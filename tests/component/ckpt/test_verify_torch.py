"""`verify` on files of the real torch: read without running them, each byte of their records checked."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from orz_ckpt.cli import app
from orz_ckpt.disk import reading
from orz_ckpt.findings import Level, Report
from orz_ckpt.formats.torch_file import load
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    WriteModel = Callable[..., Path]

torch = pytest.importorskip("torch")
load_file = pytest.importorskip("safetensors.torch").load_file

pytestmark = pytest.mark.component

INDEX = "model.safetensors.index.json"
BIN = "pytorch_model.bin"
STATE = "state/policy-rank-0-of-1.pt"
BIN_INDEX = "pytorch_model.bin.index.json"


def codes(report: Report) -> set[tuple[str, str]]:
    """Return code and path of every finding that is no note."""
    return {
        (entry.code, os.path.relpath(entry.path, report.path))
        for entry in report.findings
        if entry.severity is not Severity.INFO
    }


def notes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.INFO}


def the(report: Report, code: str) -> Any:
    """Return the one finding with a code."""
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


class Canary:
    """Leaves a file behind where it is unpickled for real."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.fixture
def pickled(model: Path) -> Path:
    """The model folder with one pytorch_model.bin instead of safetensors shards."""
    state: dict[str, Any] = {}
    for shard in sorted(model.glob("*.safetensors")):
        state |= load_file(shard)
        shard.unlink()
    (model / INDEX).unlink()
    torch.save(state, model / BIN)
    return model


@pytest.fixture
def sharded(model: Path) -> Path:
    """The model folder with its shards and its index in torch's format."""
    for shard in sorted(model.glob("*.safetensors")):
        name = f"pytorch_{shard.stem}.bin"
        torch.save(load_file(shard), model / name)
        shard.unlink()
    index = json.loads((model / INDEX).read_text(encoding="utf-8"))
    index["weight_map"] = {
        key: f"pytorch_{file.removesuffix('.safetensors')}.bin" for key, file in index["weight_map"].items()
    }
    (model / BIN_INDEX).write_text(json.dumps(index), encoding="utf-8")
    (model / INDEX).unlink()
    return model


@pytest.mark.parametrize("level", list(Level))
def test_sound_folders(pickled: Path, level: Level) -> None:
    """A folder with pytorch_model.bin passes as one with safetensors does."""
    report = verify(pickled, level=level)

    expected = {"no_manifest"} | {Level.SAMPLE: {"sampled"}, Level.DEEP: {"one_copy"}}.get(level, set())
    assert (Status.OK, set(), expected) == (report.status(), codes(report), notes(report))
    assert len(torch.load(pickled / BIN)) == report.tensors


def test_sound_shards(sharded: Path) -> None:
    """Shards with their index pass, too; their total size is that of the tensors."""
    report = verify(sharded)

    assert (Status.OK, set(), {"no_manifest"}) == (report.status(), codes(report), notes(report))


def test_shards_that_do_not_fit(sharded: Path) -> None:
    """A missing shard, a stale one, and a configuration of another model are found as with safetensors."""
    (sharded / "pytorch_model-00001-of-00002.bin").rename(sharded / "pytorch_model-00003-of-00003.bin")

    assert {
        ("file_missing", "pytorch_model-00001-of-00002.bin"),
        ("shard_orphan", "pytorch_model-00003-of-00003.bin"),
    } == codes(verify(sharded))


def test_shapes(pickled: Path) -> None:
    """Names and shapes are compared with what config.json promises."""
    config = json.loads((pickled / "config.json").read_text(encoding="utf-8"))
    (pickled / "config.json").write_text(json.dumps({**config, "vocab_size": 34}), encoding="utf-8")

    assert {("shape_differs", BIN)} == codes(verify(pickled))


def test_tied_weights_have_two_names(pickled: Path) -> None:
    """A head that shares its numbers with the embedding is there, and is looked at once."""
    state = torch.load(pickled / BIN)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    torch.save(state, pickled / BIN)

    assert set() == codes(verify(pickled))


def test_partitioned_weights(pickled: Path) -> None:
    """A weight without elements was saved while it was spread over ranks."""
    state = torch.load(pickled / BIN)
    torch.save({**state, "model.layers.0.mlp.gate_proj.weight": torch.zeros(0)}, pickled / BIN)

    assert ("tensor_empty", BIN) in codes(verify(pickled, level=Level.QUICK))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "float8_e5m2"])
def test_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, value: float) -> None:
    """NaN and infinity are found in a slice and in a transposed view, with name and index, over many pieces."""
    monkeypatch.setattr(reading, "PIECE_BYTES", 4096)
    flat = torch.ones(6_000)
    flat[17 + 40 * 50 + 7] = value
    flat = flat.to(getattr(torch, dtype))
    transposed = torch.ones(30, 40)
    transposed[3, 5] = value
    path = tmp_path / "x.pt"
    torch.save(
        {
            "before": flat[:17],
            "a": flat[17 : 17 + 4000].reshape(80, 50),
            "after": flat[4017:],
            "deep": {"t": transposed.to(flat.dtype).t()},
        },
        path,
    )
    found = [entry for entry in verify(path).findings if entry.code == "not_finite"]

    assert [("a", "[40, 7]"), ("deep.t", "[5, 3]")] == [
        (entry.tensor, entry.message.partition("first at ")[2].partition(", byte")[0]) for entry in found
    ]
    assert "'a': 1 of 4,000 numbers" in found[0].message


def test_overlapping_views(tmp_path: Path) -> None:
    """Views that overlap are looked at once; a tensor that holds the bad number is named."""
    flat = torch.ones(100)
    flat[60] = float("nan")
    torch.save({"whole": flat, "head": flat[:50], "tail": flat[40:].reshape(10, 6)}, tmp_path / "x.pt")
    found = the(verify(tmp_path / "x.pt"), "not_finite")

    assert "'whole': 1 of 100 numbers are NaN or Inf, first at [60]" in found.message


def test_what_no_tensor_shows(tmp_path: Path) -> None:
    """Memory behind a tensor, which a short shard leaves as it was, is none of its numbers."""
    storage = torch.full((100,), float("nan"))
    storage[10:20] = 1
    torch.save({"w": storage[10:20]}, tmp_path / "x.pt")

    assert {"no_manifest"} == notes(verify(tmp_path / "x.pt"))
    assert Status.OK is verify(tmp_path / "x.pt").status()


def test_zeros(pickled: Path) -> None:
    """A weight of zeros is a warning, a model of them an error; of other torch files nothing is said."""
    state = torch.load(pickled / BIN)
    name = "model.layers.0.mlp.gate_proj.weight"
    torch.save({**state, name: torch.zeros_like(state[name])}, pickled / BIN)
    assert {("all_zero", BIN)} == codes(verify(pickled))
    torch.save({key: torch.zeros_like(tensor) for key, tensor in state.items()}, pickled / BIN)
    assert ("all_zero_model", ".") in codes(verify(pickled))
    torch.save({"exp_avg": torch.zeros(3, 3)}, pickled / "optimizer.pt")
    torch.save(state, pickled / BIN)

    assert set() == codes(verify(pickled))


def test_every_byte_of_every_record(tmp_path: Path) -> None:
    """One wrong bit in any byte of any record is found; the checksum of a damaged storage names its tensors."""
    path = tmp_path / "x.pt"
    flat = torch.arange(10.0)
    torch.save({"a": flat[:4], "b": {"c": flat[4:]}, "d": torch.ones(3, dtype=torch.bfloat16)}, path)
    sound = path.read_bytes()
    for record in load(path).records:
        for place in range(record.offset, record.end):
            flip(path, place)
            report = verify(path)
            assert Status.FAILED is report.status(), (record.name, place)
            if record.name == "x/data/0":
                assert {("a", True)} == {
                    (entry.tensor, "damaged in 'a', 'b.c'" in entry.message)
                    for entry in report.findings
                    if entry.code == "record_crc_differs"
                }
            path.write_bytes(sound)


def test_truncation_at_every_byte(tmp_path: Path) -> None:
    """A file cut off anywhere never passes."""
    path = tmp_path / "x.pt"
    torch.save({"w": torch.ones(3)}, path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert {("torch_invalid", ".")} == codes(verify(path)), length


def test_many_wrong_records(tmp_path: Path) -> None:
    """Of many damaged records the first three are named and the rest counted."""
    path = tmp_path / "x.pt"
    torch.save({f"w{number}": torch.ones(4) for number in range(20)}, path)
    for record in load(path).records:
        if "/data/" in record.name:
            flip(path, record.offset)
    found = [entry.message for entry in verify(path).findings if entry.code == "record_crc_differs"]

    assert 4 == len(found)
    assert "and 17 more records differ" == found[-1]


def test_file_without_checksums(tmp_path: Path) -> None:
    """A file that was written without checksums passes, with a note that damage cannot be told."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(3)}, tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    report = verify(tmp_path / "x.pt")

    assert (Status.OK, {"no_manifest", "checksums_off"}) == (report.status(), notes(report))


def test_older_container(tmp_path: Path) -> None:
    """A file of the older container passes with a note that it has no checksums, and its numbers are looked at."""
    torch.save({"w": torch.ones(3)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    report = verify(tmp_path / "x.pt")
    assert (Status.OK, set()) == (report.status(), codes(report))
    assert {"no_manifest", "checksums_off"} == notes(report)
    torch.save({"w": torch.full((3,), float("nan"))}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)

    assert {("not_finite", ".")} == codes(verify(tmp_path / "x.pt"))


def test_tensors_that_are_not_read(tmp_path: Path) -> None:
    """A sparse tensor makes the answer inconclusive: never a pass."""
    torch.save({"w": torch.ones(2, 2).to_sparse()}, tmp_path / "x.pt")
    report = verify(tmp_path / "x.pt")

    assert (Status.INCONCLUSIVE, {("weights_not_read", ".")}) == (report.status(), codes(report))


def test_what_a_trainer_leaves_beside(pickled: Path, tmp_path: Path) -> None:
    """Optimizer, scheduler, states of generators and other pickles beside a model are read, and hold no weights."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    torch.save(optimizer.state_dict(), pickled / "optimizer.pt")
    torch.save({"cpu": torch.get_rng_state()}, pickled / "rng_state.pth")
    (pickled / "sampler.bin").write_bytes(pickle.dumps({"position": 7}))
    (pickled / "notes.bin").write_bytes(b"anything")
    assert (Status.OK, set()) == (verify(pickled).status(), codes(verify(pickled)))
    (pickled / BIN).unlink()

    assert {("no_weights", ".")} == codes(verify(pickled))


def test_weights_under_another_name(pickled: Path) -> None:
    """Weights that no loader would find are read, and nothing is said of their shapes but that."""
    (pickled / BIN).rename(pickled / "consolidated.00.pth")
    report = verify(pickled)

    assert (Status.OK, set()) == (report.status(), codes(report))
    assert "shapes_not_checked" in notes(report)


@pytest.mark.parametrize("name", [BIN, "training_args.bin", "optimizer.pt", "other.pth", "model.ckpt"])
def test_hostile_file_in_a_folder(pickled: Path, tmp_path: Path, name: str) -> None:
    """Whatever its name, a pickle that would run code makes the folder refused, and nothing is run."""
    torch.save({"w": torch.ones(2), "x": Canary(tmp_path / "alarm")}, pickled / name)
    report = verify(pickled)

    assert Status.REFUSED is report.status()
    assert ("pickle_calls", name) in codes(report)
    assert not (tmp_path / "alarm").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_bare_hostile_pickle(tmp_path: Path, protocol: int) -> None:
    """A pickle without any of torch's container is what torch would load as the older one, and run."""
    (tmp_path / "x.pt").write_bytes(pickle.dumps(Canary(tmp_path / "alarm"), protocol))
    report = verify(tmp_path / "x.pt")

    assert (Status.REFUSED, {("pickle_calls", ".")}) == (report.status(), codes(report))
    assert not (tmp_path / "alarm").exists()


@pytest.fixture
def commit(model: Path, tmp_path: Path) -> Callable[[Any], Path]:
    """A function that commits a step with a model, a state that is a torch file, and a file of another program's."""

    def commit(state: Any) -> Path:
        final = step_folder(tmp_path / "run", 1)
        with stage(final) as staged:
            shutil.copytree(model, staged.path / "policy")
            (staged.path / "state").mkdir()
            torch.save(state, staged.path / STATE)
            (staged.path / "state" / "sampler.bin").write_bytes(b"anything")
            staged.commit(step=1, roles={"policy": "policy"}, writer="orz-train 0.1.0")
        return final

    return commit


def test_state_of_a_checkpoint(commit: Callable[[Any], Path]) -> None:
    """What a resume needs is read as a torch file, too."""
    report = verify(commit({"w": torch.ones(2)}))

    assert (Status.OK, set()) == (report.status(), codes(report))


def test_numbers_in_a_state(commit: Callable[[Any], Path]) -> None:
    """NaN in what was committed is found."""
    assert {("not_finite", STATE)} == codes(verify(commit({"w": torch.full((2,), float("nan"))})))


def test_hostile_state_of_a_checkpoint(commit: Callable[[Any], Path], tmp_path: Path) -> None:
    """A state that would run code is refused, although every byte of it is what was committed."""
    report = verify(commit({"x": Canary(tmp_path / "alarm")}))

    assert (Status.REFUSED, {("pickle_calls", STATE)}) == (report.status(), codes(report))
    assert not (tmp_path / "alarm").exists()


def test_damaged_state_of_a_checkpoint(commit: Callable[[Any], Path]) -> None:
    """A wrong byte in a committed torch file is one finding, which names the tensor."""
    step = commit({"w": torch.ones(2), "v": torch.ones(3)})
    (place,) = (record.offset for record in load(step / STATE).records if record.name.endswith("data/1"))
    flip(step / STATE, place)
    report = verify(step)
    found = the(report, "digest_differs")

    assert {("digest_differs", STATE)} == codes(report)
    assert ("v", True) == (found.tensor, "damaged in 'v'" in found.message)


def test_name_that_the_user_knows(tmp_path: Path) -> None:
    """`--inert` lets one name pass, given on the command line as often as needed; without it the exit code is 4."""
    path = tmp_path / "x.pt"
    torch.save({"layer": torch.nn.Linear(2, 3), "act": torch.nn.ReLU()}, path)
    names = ["torch.nn.modules.linear.Linear", "torch.nn.modules.activation.ReLU"]
    options = [option for name in names for option in ("--inert", name)]

    assert 4 == CliRunner().invoke(app, ["verify", str(path)]).exit_code
    assert 4 == CliRunner().invoke(app, ["verify", str(path), *options[:2]]).exit_code
    assert 0 == CliRunner().invoke(app, ["verify", str(path), *options]).exit_code


def test_report_of_a_hostile_file(tmp_path: Path) -> None:
    """The report names the call and what to do, as text and as JSON."""
    torch.save(Canary(tmp_path / "alarm"), tmp_path / "x.pt")
    text = CliRunner().invoke(app, ["verify", str(tmp_path / "x.pt")])
    document = json.loads(CliRunner().invoke(app, ["verify", "--json", str(tmp_path / "x.pt")]).stdout)

    assert "posix.system" in text.stdout
    assert "--inert posix.system" in text.stdout
    assert ("refused", "pickle_calls") == (document["status"], document["findings"][0]["code"])
