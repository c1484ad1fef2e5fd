"""Collections that were cut off, by a kill, a node, a full disk or damage on the way: the next one makes it whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orz_ckpt.cluster.collect.journal import STAGED
from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Here, NodeError
from orz_ckpt.errors import StorageFullError
from orz_ckpt.inventory import step_folder
from orz_ckpt.node import files
from orz_ckpt.node.files import Chunk
from orz_ckpt.unfinished import COLLECT_DIR, go_on_collecting
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = pytest.mark.component


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


def errors(done) -> list[str]:
    return [entry.code for entry in done.findings if entry.severity == "error"]


def test_it_goes_on_where_it_stopped(halves: list[str], tmp_path: Path, whole: Callable[[Path], bool]) -> None:
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


@pytest.mark.parametrize("command", ["verify", "inspect", "merge", "copy", "locate", "diff"])
def test_every_command_says_how_it_goes_on(
    halves: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """While nothing but what was in flight lies there, the answer is to give the same command again, word for word."""
    dest = tmp_path / "the run"
    collect(SmallChunks(fail_after=5), halves, dest)
    more = {"merge": [tmp_path / "m"], "copy": [tmp_path / "m"], "diff": [halves[0]]}.get(command, [])
    code = main(["ckpt", command, str(dest), *map(str, more)])
    said = " ".join(" ".join(capsys.readouterr()).split())
    assert (1 if command == "locate" else 3) == code, said
    assert "a collection to it goes on, or was cut off" in said
    assert f"orz ckpt collect {halves[0]} {halves[1]} --to '{dest}'" in said
    assert "step_000050 " not in said, "other runs are not listed"
    assert Status.OK == collect(Here(), halves, dest).status()
    assert "" == go_on_collecting(dest)


def test_the_nodes_that_were_asked_are_named(halves: list[str], tmp_path: Path) -> None:
    """What was asked for is noted as words: whatever the note says, no other command comes of it."""
    fleet = SmallChunks(fail_after=5)
    fleet.flags = "--hosts 'a,root@b'"
    collect(fleet, halves, tmp_path / "out")
    assert f"orz ckpt collect {' '.join(halves)} --to {tmp_path}/out --hosts a,root@b" == go_on_collecting(
        tmp_path / "out"
    )
    note = tmp_path / "out" / COLLECT_DIR / "asked.json"
    note.write_text(json.dumps({"runs": ["x; rm -rf ~", 7], "nodes": ["$(id)"]}))
    assert f"orz ckpt collect 'x; rm -rf ~' --to {tmp_path}/out '$(id)'" == go_on_collecting(tmp_path / "out")
    note.write_text("{")
    assert go_on_collecting(tmp_path / "out").startswith(f"orz ckpt collect RUN --to {tmp_path}/out ")


def test_a_step_whose_collection_was_cut_off_before_its_manifest(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That its save never came to its end is not all that may be the matter: the collection is to go on."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("orz_ckpt.cluster.collect.run.commit_step", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(Here(), [str(run)], tmp_path / "out")
    command = f"orz ckpt collect {run} --to {tmp_path}/out"
    report = verify(tmp_path / "out")
    assert {"in_flight", "uncommitted"} <= {entry.code for entry in report.findings if command in entry.remedy}
    assert Status.OK == collect(Here(), [str(run)], tmp_path / "out").status()
    assert Status.OK == verify(tmp_path / "out").status()


def test_leftovers_of_an_earlier_attempt_are_not_published(
    halves: list[str], tmp_path: Path, whole: Callable[[Path], bool]
) -> None:
    """What an earlier attempt fetched and this one does not want stays out of the checkpoint."""
    collect(SmallChunks(fail_after=5), halves, tmp_path / "out")
    staged = next((tmp_path / "out").rglob("*.safetensors*")).parent
    (staged / "model-00009-of-00009.safetensors").write_bytes(b"half")
    assert Status.OK == collect(SmallChunks(), halves, tmp_path / "out").status()
    assert whole(tmp_path / "out")


def test_what_the_journal_says_is_checked(halves: list[str], tmp_path: Path, whole: Callable[[Path], bool]) -> None:
    """Bytes that a power cut took from a file that was begun are fetched again."""
    collect(SmallChunks(fail_after=5), halves, tmp_path / "out")
    staged = [path for path in (tmp_path / "out" / COLLECT_DIR / STAGED).rglob("*") if path.is_file()]
    (begun,) = (path for path in staged if path.stat().st_size == 5000)
    begun.write_bytes(bytes(5000))
    rest = SmallChunks()
    assert Status.OK == collect(rest, halves, tmp_path / "out").status()
    assert {0} == set(rest.offsets)
    (original,), (fetched,) = Path(halves[0]).rglob(begun.name), (tmp_path / "out").rglob(begun.name)
    assert original.read_bytes() == fetched.read_bytes()
    assert whole(tmp_path / "out")


def test_what_changed_at_the_source_is_fetched_from_its_beginning(
    halves: list[str], tmp_path: Path, whole: Callable[[Path], bool]
) -> None:
    """What the journal knows of it is of another file by now."""
    collect(SmallChunks(fail_after=5), halves, tmp_path / "out")
    for run in halves:
        for path in Path(run).rglob("*"):
            os.utime(path, ns=(1, 1))
    rest = SmallChunks()
    assert Status.OK == collect(rest, halves, tmp_path / "out").status()
    assert {0} == set(rest.offsets)
    assert whole(tmp_path / "out")


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


def test_bytes_damaged_on_the_way(halves: list[str], tmp_path: Path) -> None:
    """Each chunk is hashed on both sides; damage is never written to a checkpoint."""
    done = collect(SmallChunks(flip=True), halves, tmp_path / "out")
    assert Status.INCONCLUSIVE == done.status()
    assert "arrived damaged" in done.findings[0].message
    assert not step_folder(tmp_path / "out", 50).exists()


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


def test_a_nearly_full_disk_can_go_on(
    halves: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Callable[[Path], bool]
) -> None:
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
