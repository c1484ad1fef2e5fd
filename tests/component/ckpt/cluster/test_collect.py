"""`orz ckpt collect`: pieces of two disks become one checkpoint, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.cluster.collect.journal import COLLECT_DIR
from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Here, Node, NodeError
from orz_ckpt.describing import describe_folder
from orz_ckpt.errors import StorageFullError
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.node import files
from orz_ckpt.node.files import Chunk
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status

pytestmark = pytest.mark.component


POLICY = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PARTS = {
    1: ["config.json", "tokenizer.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"],
    2: ["model-00002-of-00002.safetensors"],
}


class SmallChunks(Here):
    """This machine, which hands files out in chunks of 1000 bytes, and may fail at it."""

    def __init__(self, *, fail_after: int = 10**9, flip: bool = False) -> None:
        super().__init__()
        self.left, self.flip = fail_after, flip
        self.offsets: list[int] = []

    def chunks(self, node: str, path: str, offset: int) -> Iterator[Chunk]:
        self.offsets.append(offset)
        for chunk in files.chunks(path, offset=offset, chunk_bytes=1000):
            if self.left <= 0:
                raise NodeError(f"{node} went away", remedy="wait")
            self.left -= 1
            if self.flip:
                chunk.data[0] ^= 1
            yield chunk


@pytest.fixture
def half(tmp_path: Path, make_model):
    """Return what commits one half of step 50 on a disk of its own, as nodes without a shared disk do."""
    model = make_model(tmp_path / "model", POLICY, shards=2)

    def commit(base: Path, part: int, *, attempt: str = "one") -> Path:
        with stage(step_folder(base, 50), attempt=attempt) as staged:
            policy = staged.path / "policy"
            policy.mkdir()
            for name in PARTS[part]:
                shutil.copyfile(model / name, policy / name)
            meta = {"nodes": ["n1", "n2"], "path": str(step_folder(base, 50))}
            staged.commit(step=50, roles={"policy": "policy"}, writer="t 1", node=f"n{part}", meta=meta)
        return base

    return commit


@pytest.fixture
def halves(tmp_path: Path, half) -> list[str]:
    """Two disks with a half of one checkpoint each."""
    return [str(half(tmp_path / f"disk{part}" / "run", part)) for part in (1, 2)]


def digests(*folders: object) -> dict[str, str]:
    found = [path for folder in folders for path in Path(str(folder)).rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def errors(done) -> list[str]:
    return [entry.code for entry in done.findings if entry.severity == "error"]


def whole(folder: Path) -> bool:
    """Say whether the collected run has what both halves had, and every byte of it is right."""
    manifest = load(step_folder(folder, 50) / MANIFEST_NAME)
    found = {name.removeprefix("policy/") for name in manifest.files}
    return set(PARTS[1] + PARTS[2]) == found and Status.OK == verify(folder, require_manifest=True).status()


def test_a_whole_run_keeps_its_manifests(run: Path, tmp_path: Path) -> None:
    """All of it arrives byte for byte; the source is as it was; a second time nothing is copied."""
    before = digests(run)
    done = collect(Here(), [str(run)], tmp_path / "out")
    assert (Status.OK, [True] * 3) == (done.status(), [one.committed for one in done.gathered])
    theirs = {name.removeprefix(str(run)): digest for name, digest in before.items()}
    ours = {name.removeprefix(str(tmp_path / "out")): digest for name, digest in digests(tmp_path / "out").items()}
    assert theirs == ours
    assert before == digests(run)
    assert 0 == collect(Here(), [str(run)], tmp_path / "out").copied_bytes
    assert Status.OK == verify(tmp_path / "out", require_manifest=True).status()


def test_a_step_folder_of_another_name(run: Path, tmp_path: Path) -> None:
    """A copy of a step is that step whatever it is called: state and manifest come with the weights."""
    exp = Path(shutil.copytree(step_folder(run, 20), tmp_path / "exp"))
    shutil.copytree(exp, run / "best")
    done = collect(Here(), [str(exp)], tmp_path / "out")
    assert (Status.OK, [("", 20, True)]) == (
        done.status(),
        [(one.rel, one.step, one.committed) for one in done.gathered],
    )
    ours = {name.removeprefix(str(tmp_path / "out")): digest for name, digest in digests(tmp_path / "out").items()}
    assert {name.removeprefix(str(exp)): digest for name, digest in digests(exp).items()} == ours
    assert Status.OK == verify(tmp_path / "out", require_manifest=True).status()

    collect(Here(), [str(run)], tmp_path / "all")
    assert Status.OK == verify(tmp_path / "all" / "best", require_manifest=True).status()


def test_a_renamed_step_that_was_cut_off_on_its_way(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of it lies in the destination itself; the same command goes on there."""
    exp = Path(shutil.copytree(step_folder(run, 20), tmp_path / "exp"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("orz_ckpt.cluster.collect.run.commit_step", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(Here(), [str(exp)], tmp_path / "out")
    assert (tmp_path / "out" / "state").is_dir()
    assert Status.OK == collect(Here(), [str(exp)], tmp_path / "out").status()
    assert Status.OK == verify(tmp_path / "out", require_manifest=True).status()


def test_two_halves_become_one(halves: list[str], tmp_path: Path) -> None:
    """Neither is whole, both together are, under one manifest with both nodes' records beside it."""
    before = digests(*halves)
    alone = collect(Here(), halves[:1], tmp_path / "alone")
    assert (Status.FAILED, {"pieces_incomplete"}) == (alone.status(), set(errors(alone)))
    assert not (step_folder(tmp_path / "alone", 50) / MANIFEST_NAME).exists()

    done = collect(Here(), halves, tmp_path / "out")
    assert (Status.OK, [True]) == (done.status(), [one.committed for one in done.gathered])
    assert whole(tmp_path / "out")
    assert {"manifest-n1.json", "manifest-n2.json"} == {
        path.name for path in (step_folder(tmp_path / "out", 50) / ".orz").iterdir()
    }
    assert before == digests(*halves)
    assert not (tmp_path / "out" / COLLECT_DIR).exists()


def test_what_the_first_lacked_can_come_later(halves: list[str], tmp_path: Path) -> None:
    """A collection that was incomplete is completed by the next, and committed then."""
    collect(Here(), halves[:1], tmp_path / "out")
    done = collect(Here(), halves, tmp_path / "out")
    assert Status.OK == done.status()
    assert whole(tmp_path / "out")


def test_a_dry_run_writes_nothing(halves: list[str], tmp_path: Path) -> None:
    """It says what would come from where."""
    done = collect(Here(), halves, tmp_path / "out", dry_run=True)
    assert 7 == len(done.gathered[0].to_copy)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_a_step_that_may_not_be_read(run: Path, public, limited) -> None:
    """What else there is would come, and the answer is that it may not be all."""
    path = public(run)
    step_folder(path, 30).chmod(0)
    with limited():
        done = collect(Here(), [str(path)], path.parent / "out", dry_run=True)
    step_folder(path, 30).chmod(0o755)

    assert (Status.INCONCLUSIVE, ["unreadable"]) == (done.status(), errors(done))
    assert [10, 20] == [one.step for one in done.gathered]


@pytest.mark.parametrize("records", [True, False], ids=["with records of nodes", "alone"])
def test_a_manifest_of_a_later_version(run: Path, tmp_path: Path, records: bool) -> None:
    """What it says cannot be checked here: the step stays where it is, nothing is called broken, and others come."""
    manifest = step_folder(run, 30) / MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "v": 2}))
    if not records:
        shutil.rmtree(step_folder(run, 30) / ".orz")
    done = collect(Here(), [str(run)], tmp_path / "out")

    (entry,) = [entry for entry in done.findings if entry.severity == "error"]
    assert (Status.INCONCLUSIVE, "manifest_newer") == (done.status(), entry.code)
    assert "pip install --upgrade orz-ckpt" in entry.remedy
    assert ([10, 20], False) == ([one.step for one in done.gathered], step_folder(tmp_path / "out", 30).exists())


@pytest.mark.parametrize("step", [10, 30])
@pytest.mark.parametrize(
    ("text", "code"), [("{", "manifest_torn"), ('{"v": 2}', "manifest_newer"), (None, "uncommitted")]
)
def test_a_manifest_that_is_of_no_use_is_told_once(
    run: Path, tmp_path: Path, text: str | None, code: str, step: int
) -> None:
    """Of a step without records: by the search, or by what is brought; once is enough, and it is an error."""
    manifest = step_folder(run, step) / MANIFEST_NAME
    shutil.rmtree(step_folder(run, step) / ".orz")
    manifest.unlink()
    if text is not None:
        manifest.write_text(text)
    done = collect(Here(), [str(run)], tmp_path / "out")

    assert [(code, "error")] == [(entry.code, entry.severity) for entry in done.findings if entry.severity != "info"]


def test_a_step_that_nobody_recorded(run: Path, tmp_path: Path) -> None:
    """It comes, and is not committed; what is said to help does: a copy of a model can have a manifest."""
    (step_folder(run, 30) / MANIFEST_NAME).unlink()
    shutil.rmtree(step_folder(run, 30) / ".orz")
    done = collect(Here(), [str(run)], tmp_path / "out")

    there = step_folder(tmp_path / "out", 30)
    (entry,) = [entry for entry in done.findings if entry.code == "uncommitted" and entry.path == str(there)]
    assert Status.FAILED == done.status()
    assert "describe the copy: orz ckpt manifest COPY" in entry.remedy
    shutil.copytree(there / "policy", tmp_path / "copy")
    assert Status.OK == describe_folder(tmp_path / "copy").status()


def test_halves_of_different_saves_do_not_mix(tmp_path: Path, half) -> None:
    """Two attempts at one step are not one checkpoint."""
    runs = [str(half(tmp_path / f"d{part}", part, attempt=f"a{part}")) for part in (1, 2)]
    done = collect(Here(), runs, tmp_path / "out")
    assert ["saves_mixed"] == errors(done)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_conflict_names_both(tmp_path: Path) -> None:
    """One name with different bytes on two disks: an error that names both, and nothing is published."""
    runs = []
    for number in (1, 2):
        folder = tmp_path / f"d{number}" / "iter1"
        folder.mkdir(parents=True)
        save_file({"w": np.full(10, number, "<f4")}, folder / "model.safetensors")
        runs.append(str(folder.parent))
    done = collect(Here(), runs, tmp_path / "out")
    (found,) = [entry for entry in done.findings if entry.severity == "error"]
    assert "collect_conflict" == found.code
    assert all(f"{run}/iter1/model.safetensors" in found.message for run in runs)
    assert not (tmp_path / "out" / "iter1").exists()


def test_equal_copies_are_fine(tmp_path: Path) -> None:
    """The same bytes on two disks are one file."""
    runs = []
    for number in (1, 2):
        folder = tmp_path / f"d{number}" / "iter1"
        folder.mkdir(parents=True)
        save_file({"w": np.ones(10, "<f4")}, folder / "model.safetensors")
        runs.append(str(folder.parent))
    done = collect(Here(), runs, tmp_path / "out")
    assert (Status.OK, 1) == (done.status(), len(done.gathered[0].moves))
    assert (tmp_path / "out" / "iter1" / "model.safetensors").is_file()


def test_nothing_at_the_destination_is_replaced(halves: list[str], half, tmp_path: Path) -> None:
    """Another file under that name, and a committed step that is not all of this one, both stand."""
    other = step_folder(tmp_path / "out", 50) / "policy" / "model-00001-of-00002.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    done = collect(Here(), halves, tmp_path / "out")
    assert ("collect_conflict", b"mine") == (errors(done)[0], other.read_bytes())

    committed = half(tmp_path / "third", 1)
    before = digests(committed)
    done = collect(Here(), halves, committed)
    assert {"collect_conflict"} == set(errors(done))
    assert any("is committed already" in entry.message for entry in done.findings)
    assert before == digests(committed)


def test_home_of_a_run_may_be_the_destination(halves: list[str], tmp_path: Path) -> None:
    """On the head lie a stub with the driver's JSON and what the nodes recorded; the weights join them there."""
    near = tmp_path / "near" / "run"
    (step_folder(near, 50) / ".orz").mkdir(parents=True)
    (step_folder(near, 50) / "evaluation.json").write_text("{}")
    for part, run in enumerate(halves, start=1):
        shutil.copy(step_folder(Path(run), 50) / ".orz" / f"manifest-n{part}.json", step_folder(near, 50) / ".orz")
    lost = verify(near)
    assert 2 == len([entry for entry in lost.findings if entry.code == "weights_elsewhere"])
    done = collect(Here(), [str(near), *halves], near)
    assert Status.OK == done.status(), done.findings
    manifest = load(step_folder(near, 50) / MANIFEST_NAME)
    assert ["evaluation.json"] == [name for name in manifest.files if not name.startswith("policy/")]
    assert Status.OK == verify(near, require_manifest=True).status()


def test_a_save_whose_weights_went_elsewhere_in_flight(tmp_path: Path) -> None:
    """The driver committed its own JSON; the rank wrote into a temporary folder of the same save on another disk."""
    near, far = tmp_path / "near", tmp_path / "far"
    with stage(step_folder(near, 50), attempt="one") as staged:
        (staged.path / "policy").mkdir()
        (staged.path / "policy" / "note.json").write_text("{}")
        staged.commit(step=50, roles={"policy": "policy"}, writer="t 1", node="n1")
    lost = far / "checkpoints" / "step_000050.tmp-one" / "policy"
    lost.mkdir(parents=True)
    save_file({"w": np.ones(5, "<f4")}, lost / "model.safetensors")
    done = collect(Here(), [str(near), str(far)], tmp_path / "out")
    assert Status.OK == done.status(), done.findings
    manifest = load(step_folder(tmp_path / "out", 50) / MANIFEST_NAME)
    assert {"policy/note.json", "policy/model.safetensors"} == set(manifest.files)


def test_an_unfinished_save_stays_where_it_is(run: Path, tmp_path: Path) -> None:
    """A temporary folder that belongs to nothing finished is told and not brought."""
    shutil.copytree(step_folder(run, 30), run / "checkpoints" / "step_000040.tmp-x")
    (run / "checkpoints" / "step_000040.tmp-x" / MANIFEST_NAME).unlink()
    done = collect(Here(), [str(run)], tmp_path / "out")
    assert (Status.OK, {"in_flight", "collected"}) == (done.status(), {entry.code for entry in done.findings})
    assert not list((tmp_path / "out" / "checkpoints").glob("*40*"))


def test_it_goes_on_where_it_stopped(halves: list[str], tmp_path: Path) -> None:
    """A node that goes away leaves the answer inconclusive and the bytes there; only the rest comes the second time."""
    cut = SmallChunks(fail_after=5)
    first = collect(cut, halves, tmp_path / "out")
    assert (Status.INCONCLUSIVE, {"node_failed"}) == (first.status(), set(errors(first)))
    assert not step_folder(tmp_path / "out", 50).exists()
    rest = SmallChunks()
    second = collect(rest, halves, tmp_path / "out")
    assert Status.OK == second.status()
    assert max(rest.offsets) >= 1000
    assert whole(tmp_path / "out")


def test_leftovers_of_an_earlier_attempt_are_not_published(halves: list[str], tmp_path: Path) -> None:
    """What an earlier attempt fetched and this one does not want stays out of the checkpoint."""
    collect(SmallChunks(fail_after=5), halves, tmp_path / "out")
    staged = next((tmp_path / "out").rglob("*.safetensors*")).parent
    (staged / "model-00009-of-00009.safetensors").write_bytes(b"half")
    assert Status.OK == collect(SmallChunks(), halves, tmp_path / "out").status()
    assert whole(tmp_path / "out")


def test_what_the_journal_says_is_checked(halves: list[str], tmp_path: Path) -> None:
    """Bytes that a power cut took from a file that was begun are fetched again, and so is a file that changed."""
    collect(SmallChunks(fail_after=5), halves, tmp_path / "out")
    for part in (tmp_path / "out" / COLLECT_DIR).rglob("*.safetensors"):
        part.write_bytes(bytes(part.stat().st_size))
    assert Status.OK == collect(SmallChunks(), halves, tmp_path / "out").status()
    assert whole(tmp_path / "out")


def test_bytes_damaged_on_the_way(halves: list[str], tmp_path: Path) -> None:
    """Each chunk is hashed on both sides; damage is never written to a checkpoint."""
    done = collect(SmallChunks(flip=True), halves, tmp_path / "out")
    assert Status.INCONCLUSIVE == done.status()
    assert "arrived damaged" in done.findings[0].message
    assert not step_folder(tmp_path / "out", 50).exists()


def test_bytes_damaged_at_the_source(halves: list[str], tmp_path: Path) -> None:
    """What was recorded when it was saved decides: a rotten file is not collected as if it were sound."""
    path = step_folder(Path(halves[1]), 50) / "policy" / "model-00002-of-00002.safetensors"
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x55")
    done = collect(Here(), halves, tmp_path / "out")
    assert ["collect_differs"] == errors(done)
    assert str(path) in next(entry.message for entry in done.findings if entry.code == "collect_differs")
    assert not (step_folder(tmp_path / "out", 50) / MANIFEST_NAME).exists()


def test_too_little_room(halves: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen before anything is copied; a disk that fills up on the way is an error that keeps what came."""
    monkeypatch.setattr("orz_ckpt.cluster.collect.run.free_bytes", lambda _: 100)
    done = collect(Here(), halves, tmp_path / "out")
    assert ["low_space"] == errors(done)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()

    def full(descriptor: int, data: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orz_ckpt.cluster.collect.transfer.os.pwrite", full)
    with pytest.raises(StorageFullError, match="No space left"):
        collect(Here(), halves, tmp_path / "out")
    monkeypatch.undo()
    assert Status.OK == collect(Here(), halves, tmp_path / "out").status()


def test_killed_at_every_write(halves: list[str], tmp_path: Path) -> None:
    """Whenever it dies, a reader sees nothing, an uncommitted step or the whole; the next run makes it whole."""
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, Path(__file__).with_name("collect_kill_at.py"), tmp_path / "scratch", *halves]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "" == done.stderr
    attempts = [line.split() for line in done.stdout.splitlines()]
    assert len(attempts) > 20
    assert {"nothing", "uncommitted", "whole"} == {between for _, between, _ in attempts}
    assert {"whole"} == {after for _, _, after in attempts}


@pytest.mark.parametrize("dest", ["file", "inside"])
def test_places_that_cannot_be_collected_to(run: Path, tmp_path: Path, dest: str) -> None:
    """A file, and a folder inside of what is collected, are wrong usage."""
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" if dest == "file" else step_folder(run, 30) / "policy" / "x"
    with pytest.raises(UsageError):
        collect(Here(), [str(run)], path)


def test_a_hostile_node(halves: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that names a file outside of the checkpoint is refused, whatever else it has."""

    class Hostile(Here):
        def ask(self, call, arguments, *, timeout_s=1.0):
            answers = super().ask(call, arguments, timeout_s=timeout_s)
            if call == "locate":
                for answer in answers.values():
                    for piece in answer.value["pieces"]:
                        piece["files"]["../../../evil"] = 1
            return answers

    done = collect(Hostile(), halves, tmp_path / "out")
    assert (Status.REFUSED, ["path_escapes"]) == (done.status(), errors(done))
    assert not (tmp_path / "evil").exists()


def test_two_at_once(halves: list[str], tmp_path: Path) -> None:
    """A second process that collects into the same folder is told so."""
    source = (
        "import sys; from pathlib import Path; from orz_ckpt.cluster.collect.journal import CollectJournal\n"
        "with CollectJournal(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source, tmp_path / "out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "held" == process.stdout.readline().strip()
        with pytest.raises(Exception, match="another process collects"):
            collect(Here(), halves, tmp_path / "out")
        process.communicate()


def test_a_nearly_full_disk_can_go_on(halves: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies at the destination already needs no room: room for the rest is enough, one byte less is not."""
    collect(SmallChunks(fail_after=10), halves, tmp_path / "out")
    there = (tmp_path / "out" / COLLECT_DIR / "files").rglob("*")
    staged = sum(path.stat().st_size for path in there if path.is_file())
    total = sum(move.file.size for move in collect(Here(), halves, tmp_path / "out", dry_run=True).gathered[0].moves)
    assert 0 < staged < total

    monkeypatch.setattr("orz_ckpt.cluster.collect.run.free_bytes", lambda _: total - staged - 1)
    short = collect(Here(), halves, tmp_path / "out")
    assert (["low_space"], 0) == (errors(short), short.copied_bytes)
    assert "collected" not in {entry.code for entry in short.findings}, "nothing came, so nothing is said to have come"

    monkeypatch.setattr("orz_ckpt.cluster.collect.run.free_bytes", lambda _: total - staged)
    assert Status.OK == collect(Here(), halves, tmp_path / "out").status()
    assert whole(tmp_path / "out")


def test_a_silent_node_may_have_what_is_missing(halves: list[str], tmp_path: Path) -> None:
    """Half a checkpoint and a node that is gone are inconclusive, not failed; what is there is brought."""

    class OneGone(Here):
        def __init__(self) -> None:
            super().__init__()
            self.nodes = (*self.nodes, Node(name="gone", lost=True))

    done = collect(OneGone(), halves[:1], tmp_path / "out")
    assert Status.INCONCLUSIVE == done.status()
    assert {"node_unreachable", "pieces_incomplete"} == set(errors(done))
    whole_run = collect(OneGone(), halves, tmp_path / "all")
    assert (Status.INCONCLUSIVE, {"node_unreachable"}) == (whole_run.status(), set(errors(whole_run)))
    assert whole(tmp_path / "all")
