"""`verify` on real checkpoints of FSDP and torch's distributed checkpointing: every archive, every rank, every step.

Covers F1, F8, F10, F11, F12, F13, F14, F28, F34 and F36 of the failure modes: what happens to shards of FSDP and DCP.
"""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.findings import Level, Report
from orz_ckpt.formats.torch_file import load
from orz_ckpt.readers.dcp.contents import archives_by_file
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch = pytest.importorskip("torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")

pytestmark = pytest.mark.component

SOUND = ["fsdp2", "fsdp1", "fsdp1_mesh", "hsdp", "fsdp_tp", "two_dims", "dcp_nested", "dcp_flat", "dcp_single"]
SOUND += ["dcp_no_collectives", "hf_shards"]
NAN = struct.pack("<f", float("nan"))


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def notes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.INFO}


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


class Canary:
    """Leaves a file behind where it is unpickled for real."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", SOUND)
def test_sound(name: str, saved: Callable[[str], Path]) -> None:
    """What the real framework wrote passes on every level, and is said to be shards that have to be merged."""
    path = saved(name)
    expected = {"no_manifest", "not_merged", *([] if name.startswith(("dcp", "hf")) else ["shapes_not_checked"])}
    warned = {"shapes_derived"} if name == "hf_shards" else set()
    for level in Level:
        report = verify(path, level=level)
        one_copy = set() if name == "hsdp" else {"one_copy"}
        more = {Level.SAMPLE: {"sampled"}, Level.DEEP: one_copy}.get(level, set())
        assert (Status.OK, warned, expected | more) == (report.status(), codes(report), notes(report)), level
        assert len(open_source(path).tensors) == report.tensors


def test_copies_are_spoken_of_once(saved: Callable[[str], Path]) -> None:
    """Of a run one place says that there is one copy, where its weights lie; of HSDP, whose copies agree, none does."""
    runs = {name: verify(saved(name).parent.parent, level=Level.DEEP) for name in ("fsdp_tp", "fsdp2", "hsdp")}
    said = {name: [entry for entry in run.findings if entry.code == "one_copy"] for name, run in runs.items()}

    assert {"fsdp_tp": 1, "fsdp2": 1, "hsdp": 0} == {name: len(found) for name, found in said.items()}
    assert "there is one copy of the weights" in said["fsdp_tp"][0].message
    assert "7 of 11 tensors have one copy" in said["fsdp2"][0].message  # the others are whole on every rank


def test_shards_of_the_hugging_face_writer(saved: Callable[[str], Path]) -> None:
    """A shard of `HuggingFaceStorageWriter` holds tensors without elements where a rank has none; that is no error."""
    report = verify(saved("hf_shards"))

    assert "tensor_empty" not in codes(report)
    assert Status.OK is report.status()


@pytest.mark.parametrize("name", ["fsdp2", "dcp_nested"])
def test_shards_that_are_those_of_the_base(
    name: str, saved: Callable[[str], Path], broken: Callable[[str], Path]
) -> None:
    """Shards are not merged of others: with the same numbers, a training that saved them changed nothing (F27)."""
    report = verify(broken(name), against=saved(name))

    assert (Status.FAILED, {"unchanged"}) == (report.status(), codes(report))
    assert "copy_of_base" not in notes(report)


@pytest.mark.parametrize("name", ["fsdp2", "dcp_nested", "dcp_no_collectives"])
def test_one_wrong_bit_in_every_file(name: str, broken: Callable[[str], Path]) -> None:
    """One wrong bit in the numbers of any tensor, weight or optimizer state, is found and names the file (F10)."""
    path = broken(name)
    archives = archives_by_file(path)
    places = {file: [(entry.offset, entry.nbytes) for entry in entries] for file, entries in archives.items()}
    places |= {file: [(0, file.stat().st_size)] for file in path.glob("*.pt")}
    assert 3 <= len(places)
    for file, inside in places.items():
        sound = file.read_bytes()
        records = [record for offset, nbytes in inside for record in load(file, offset=offset, nbytes=nbytes).records]
        wanted = [record for record in records if record.nbytes and "/data/" in record.name]
        for record in wanted[:: max(1, len(wanted) // 6)]:
            flip(file, record.offset + record.nbytes // 2)
            report = verify(path)
            errors = {entry.path for entry in report.findings if entry.severity is Severity.ERROR}
            assert (Status.FAILED, {str(file)}) == (report.status(), errors), record.name
            file.write_bytes(sound)


def test_damage_names_the_tensor(broken: Callable[[str], Path]) -> None:
    """The damaged record of a rank's shard names the tensor of the model that lies in it."""
    path = broken("fsdp2")
    piece = open_source(path).tensors["up.weight"].pieces[1]
    flip(piece.block.path, piece.block.offset)
    found = the(verify(path), "record_crc_differs")

    assert ("up.weight", True) == (found.tensor, "damaged in 'up.weight'" in found.message)


@pytest.mark.parametrize("name", ["fsdp2", "dcp_nested"])
def test_nan_by_name_and_place(
    name: str, broken: Callable[[str], Path], patched: Callable[[Path, bytes, bytes], None]
) -> None:
    """NaN in a rank's shard is told by the tensor's name and the index in the whole tensor (F28)."""
    path = broken(name)
    tensor = open_source(path).tensors["up.weight"]
    piece = tensor.pieces[1]
    assert ((10, 6), (4, 0)) == (tensor.shape, piece.start)
    data = piece.block.path.read_bytes()
    old = data[piece.block.offset : piece.block.offset + piece.block.nbytes]
    patched(piece.block.path, old, old[:28] + NAN + old[32:])
    found = the(verify(path), "not_finite")

    assert ("up.weight", True) == (found.tensor, "first at [5, 1]" in found.message)


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("fsdp2", "model_*_rank_[12].pt", "ranks 1-2 of 3 have no file here"),
        ("dcp_flat", "__[12]_*.distcp", "4 files of ranks 1-2 are missing"),
    ],
)
def test_missing_ranks(name: str, pattern: str, expected: str, broken: Callable[[str], Path]) -> None:
    """Ranks that wrote to other nodes' disks are named, and how to find their files (F1)."""
    path = broken(name)
    for file in path.glob(pattern):
        file.unlink()
    report = verify(path)
    found = the(report, "ranks_missing")

    assert ({"ranks_missing"}, True) == (codes(report), expected in found.message)
    assert "orz ckpt locate" in found.remedy


def test_one_node_of_two_replicas(broken: Callable[[str], Path]) -> None:
    """Where another node holds copies alone, the weights are whole: a warning."""
    path = broken("hsdp")
    for file in path.glob("*_rank_[23].pt"):
        file.unlink()
    report = verify(path)

    assert (Status.OK, {"copies_missing"}) == (report.status(), codes(report))


def test_mixed_steps(broken: Callable[[str], Path]) -> None:
    """A rank's files of another step are found by what its scheduler says (F13)."""
    path = broken("fsdp2")
    extra = path / "extra_state_world_size_3_rank_1.pt"
    state = torch.load(extra, weights_only=False)
    state["lr_scheduler"]["last_epoch"] = 3
    torch.save(state, extra)

    assert "rank 1 of step 3, ranks 0 and 2 of step 7" in the(verify(path), "steps_mixed").message


def test_stale_ranks(broken: Callable[[str], Path]) -> None:
    """Files of an earlier save on more ranks, left in the folder, are named (F14)."""
    path = broken("fsdp2")
    for rank in range(4):
        shutil.copy(path / "model_world_size_3_rank_0.pt", path / f"model_world_size_4_rank_{rank}.pt")

    assert "shard_stale" in codes(verify(path))


def test_save_that_never_finished(broken: Callable[[str], Path]) -> None:
    """Data without .metadata, which is written last, is uncommitted: exit 1 (F12)."""
    path = broken("dcp_nested")
    (path / ".metadata").unlink()
    report = verify(path)

    assert (Status.FAILED, {"uncommitted"}) == (report.status(), codes(report))


@pytest.mark.parametrize("name", ["fsdp2", "dcp_nested", "hf_shards"])
def test_truncated_shard(name: str, broken: Callable[[str], Path]) -> None:
    """A shard that was cut off is one finding that names it (F8)."""
    path = broken(name)
    file = max(path.glob("*1*.*"), key=lambda entry: entry.stat().st_size)
    file.write_bytes(file.read_bytes()[:-100])
    report = verify(path)
    errors = {(entry.code, entry.path) for entry in report.findings if entry.severity is Severity.ERROR}

    assert {("shard_torn", str(file)), ("torch_invalid", str(file)), ("header_invalid", str(file))} & errors
    assert {str(file)} == {where for code, where in errors if code != "ranks_missing"}


def test_run_of_verl(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """The steps of a run are ordered by number, whatever the times of their files say; the newest decides (F36)."""
    actor = broken("fsdp2")
    run = tmp_path / "run"
    for step in (9, 10, 100):
        shutil.copytree(actor, run / f"global_step_{step}" / "actor")
        shutil.copytree(actor, run / f"global_step_{step}" / "critic")
    (run / "latest_checkpointed_iteration.txt").write_text("100", encoding="utf-8")
    for file in (run / "global_step_9").rglob("*"):
        os.utime(file, (2_000_000_000, 2_000_000_000))
    report = verify(run, level=Level.QUICK)
    assert (Status.OK, "run", 3) == (report.status(), report.kind, len(report.parts))
    assert str(run / "global_step_100") == report.newest_good
    (run / "global_step_100" / "critic" / "model_world_size_3_rank_2.pt").unlink()
    report = verify(run, level=Level.QUICK)

    assert (Status.FAILED, str(run / "global_step_10")) == (report.status(), report.newest_good)
    assert ["ok", "ok", "failed"] == [part.status().value for part in report.parts]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("8", "tag_missing", "it names step 8, which is not here; steps here: 'global_step_7'"),
        ("half", "tag_missing", "'half' is not the number of a step"),
        ("7", None, ""),
        ("5", "latest_behind", "'global_step_7' is newer"),
    ],
)
def test_latest_of_verl(text: str, code: str | None, words: str, broken: Callable[[str], Path]) -> None:
    """The file that names the newest step is compared with the steps that are here (F11)."""
    actor = broken("fsdp2")
    run = actor.parent.parent
    if text == "5":
        shutil.copytree(actor.parent, run / "global_step_5")
    (run / "latest_checkpointed_iteration.txt").write_text(text, encoding="utf-8")
    report = verify(run, level=Level.QUICK)

    assert ({code} if code else set()) == codes(report)
    assert not code or words in the(report, code).message


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("level", list(Level))
def test_hostile_object_in_a_distributed_checkpoint(level: Level, tmp_path: Path) -> None:
    """An object beside the weights that would run code where torch loads it makes the folder refused (F34)."""
    path = tmp_path / "saved"
    state = {"model": {"w": torch.ones(3)}, "train_state": Canary(tmp_path / "alarm")}
    dcp.save(state, checkpoint_id=path, no_dist=True)
    report = verify(path, level=level)

    assert (Status.REFUSED, {"pickle_calls"}) == (report.status(), codes(report))
    assert "posix.system" in the(report, "pickle_calls").message
    assert not (tmp_path / "alarm").exists()


def test_hostile_optimizer_beside_shards(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """A rank's optimizer file, which no merge needs, is refused all the same (F34)."""
    path = broken("fsdp2")
    torch.save({"state": Canary(tmp_path / "alarm")}, path / "optim_world_size_3_rank_1.pt")
    for level in Level:
        report = verify(path, level=level)
        assert (Status.REFUSED, {"pickle_calls"}) == (report.status(), codes(report))
    assert not (tmp_path / "alarm").exists()


def test_record_that_leads_out(broken: Callable[[str], Path]) -> None:
    """A record of a shard whose name leads out of the archive is told as a path, not as a pickle that calls."""
    path = broken("fsdp2")
    with zipfile.ZipFile(path / "model_world_size_3_rank_1.pt", "a") as archive:
        archive.writestr("../outside", b"1")
    for level in Level:
        report = verify(path, level=level)
        assert (Status.REFUSED, {"path_escapes"}) == (report.status(), codes(report))


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("fsdp2", "model_world_size_3_rank_1.pt"),
        ("fsdp2", "extra_state_world_size_3_rank_2.pt"),
        ("fsdp2", "huggingface/config.json"),
        ("dcp_nested", "__1_0.distcp"),
        ("dcp_nested", ".metadata"),
        ("dcp_no_collectives", "__0.metadata"),
        ("hf_shards", "shard-00002-model-00001-of-00001.safetensors"),
    ],
)
def test_link_out_of_the_folder(
    broken: Callable[[str], Path],
    link_out: Callable[[Path], None],
    judged_by_all: Callable[[Path], dict[str, tuple[int, list[str]]]],
    case: str,
    name: str,
) -> None:
    """What belongs to a checkpoint and is a link out of its folder is refused by every command, in one finding."""
    path = broken(case)
    link_out(path / name)
    told = {command: (4, [str(path / name)]) for command in ("verify", "inspect", "merge", "convert")}

    assert told | {"diff": (4, [])} == judged_by_all(path)


def test_manifest_of_shards(broken: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest covers a folder of a distributed checkpoint; a file too many is then an error."""
    path = broken("dcp_nested")
    assert 0 == main(["ckpt", "manifest", str(path)])
    assert Status.OK is verify(path).status()
    shutil.copy(path / "__0_0.distcp", path / "__9_0.distcp")
    capsys.readouterr()

    assert {"file_extra", "shards_unused"} == codes(verify(path))
