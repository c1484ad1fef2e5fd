"""`orz ckpt collect --to URL`: pieces of several disks become one checkpoint in a store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.cluster.collect.url import collect_to_url
from orz_ckpt.cluster.fleet import Here, Node, NodeError
from orz_ckpt.copy.run import copy
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME, loads
from orz_ckpt.node import files
from orz_ckpt.node.files import Chunk
from orz_ckpt.remote import Remote
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("memory")]

PARTS = {
    1: ["config.json", "tokenizer.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"],
    2: ["model-00002-of-00002.safetensors"],
}
TARGET = "/bucket/run/checkpoints/step_000050"


class Cut(Here):
    """This machine, which hands out so many chunks of 1000 bytes before it goes away."""

    def __init__(self, left: int, *, flip: bool = False) -> None:
        super().__init__()
        self.left, self.flip = left, flip

    def chunks(self, node: str, path: str, offset: int) -> Iterator[Chunk]:
        for chunk in files.chunks(path, offset=offset, chunk_bytes=1000):
            if self.left <= 0:
                raise NodeError(f"{node} went away", remedy="wait")
            self.left -= 1
            if self.flip:
                chunk.data[0] ^= 1
            yield chunk


def remote() -> Remote:
    return Remote("memory://bucket/run", write=True)


def errors(done) -> list[str]:
    return [entry.code for entry in done.findings if entry.severity == "error"]


def pulled_is_whole(tmp_path: Path) -> bool:
    """Say whether what is in the store is the checkpoint, every byte of it."""
    shutil.rmtree(tmp_path / "back", ignore_errors=True)
    assert Status.OK == copy("memory://bucket/run", str(tmp_path / "back")).status()
    names = {path.name for path in (step_folder(tmp_path / "back", 50) / "policy").iterdir()}
    return names == set(PARTS[1] + PARTS[2]) and Status.OK == verify(tmp_path / "back", require_manifest=True).status()


def test_two_halves_become_one(halves: list[str], tmp_path: Path, memory) -> None:
    """Under one manifest; this machine's disk holds nothing of it; a second time nothing is written."""
    here = set(tmp_path.rglob("*"))
    done = collect_to_url(Here(), halves, remote())
    assert (Status.OK, [True]) == (done.status(), [one.committed for one in done.gathered]), done.findings
    assert here == set(tmp_path.rglob("*"))
    assert pulled_is_whole(tmp_path)
    again = collect_to_url(Here(), halves, remote())
    assert (Status.OK, 0) == (again.status(), again.copied_bytes)
    assert {True} == {move.there for move in again.gathered[0].moves}


def test_a_checkpoint_takes_no_run_in(halves: list[str], run: Path, memory) -> None:
    """With files in it that it does not name it would not verify: nothing is written there."""
    assert Status.OK == copy(str(step_folder(run, 10)), "memory://bucket/run").status()
    before = set(memory.store)
    with pytest.raises(UsageError, match="is inside the checkpoint memory://bucket/run, which would no longer verify"):
        collect_to_url(Here(), halves, remote())
    assert before == set(memory.store)


def test_half_is_not_committed(halves: list[str], tmp_path: Path, memory) -> None:
    """The other half may come later, and the manifest with it."""
    done = collect_to_url(Here(), halves[:1], remote())
    assert (Status.FAILED, {"pieces_incomplete"}) == (done.status(), set(errors(done)))
    assert not memory.exists(f"{TARGET}/{MANIFEST_NAME}")
    assert Status.OK == collect_to_url(Here(), halves, remote()).status()
    assert pulled_is_whole(tmp_path)


def test_it_goes_on(halves: list[str], tmp_path: Path, memory) -> None:
    """A node that goes away is inconclusive; files that came whole stay, the others come again."""
    first = collect_to_url(Cut(12), halves, remote())
    assert (Status.INCONCLUSIVE, {"node_failed"}) == (first.status(), set(errors(first)))
    assert not memory.exists(f"{TARGET}/{MANIFEST_NAME}")
    assert memory.exists(f"{TARGET}/.orz/copying")
    total = sum(move.file.size for move in first.gathered[0].moves)
    second = collect_to_url(Cut(10**6), halves, remote())
    assert Status.OK == second.status(), second.findings
    assert 0 < second.copied_bytes < total
    assert not memory.exists(f"{TARGET}/.orz/copying")
    assert pulled_is_whole(tmp_path)


def test_damage(halves: list[str], memory) -> None:
    """On the way, and at the source: neither gets a name in the store."""
    done = collect_to_url(Cut(10**6, flip=True), halves, remote())
    assert Status.INCONCLUSIVE == done.status()
    path = step_folder(Path(halves[1]), 50) / "policy" / PARTS[2][0]
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    done = collect_to_url(Here(), halves, remote())
    assert ["collect_differs"] == errors(done)
    assert not memory.exists(f"{TARGET}/policy/{PARTS[2][0]}")
    assert not memory.exists(f"{TARGET}/{MANIFEST_NAME}")


def test_nothing_there_is_replaced(halves: list[str], memory) -> None:
    """Files of somebody, and another committed step, stand."""
    memory.pipe(f"{TARGET}/policy/config.json", b"mine")
    done = collect_to_url(Here(), halves, remote())
    assert (["collect_conflict"], b"mine") == (errors(done), memory.cat(f"{TARGET}/policy/config.json"))
    memory.store.clear()
    copy(halves[0], "memory://bucket/run")
    before = memory.cat(f"{TARGET}/{MANIFEST_NAME}")
    done = collect_to_url(Here(), halves, remote())
    assert (["collect_conflict"], before) == (errors(done), memory.cat(f"{TARGET}/{MANIFEST_NAME}"))
    assert 4 == len(loads(before).files)


def test_a_dry_run_and_a_silent_node(halves: list[str], memory) -> None:
    """A dry run writes nothing; a node that is gone leaves the verdict open."""
    assert Status.OK == collect_to_url(Here(), halves, remote(), dry_run=True).status()
    assert {} == memory.store
    fleet = Here()
    fleet.nodes = (*fleet.nodes, Node(name="gone", lost=True))
    done = collect_to_url(fleet, halves, remote())
    assert (Status.INCONCLUSIVE, ["node_unreachable"]) == (done.status(), errors(done))


def test_shards_of_another_framework(tmp_path: Path, memory) -> None:
    """Without a manifest files come all the same."""
    folder = tmp_path / "run" / "iter1"
    folder.mkdir(parents=True)
    save_file({"w": np.ones(10, "<f4")}, folder / "model.safetensors")
    done = collect_to_url(Here(), [str(tmp_path / "run")], remote())
    assert Status.OK == done.status(), done.findings
    assert (folder / "model.safetensors").read_bytes() == memory.cat("/bucket/run/iter1/model.safetensors")


def test_the_command(halves: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], memory) -> None:
    """It takes URLs, file:// as a folder, and tells what to install; secrets are not printed."""
    secret = "memory://key:hunter2@bucket/run?token=swordfish"  # noqa: S105  one for this test
    for form in ("text", "json", "github"):
        assert 0 == main(["ckpt", "collect", *halves, "--to", secret, "--format", form])
        said = capsys.readouterr()
        assert not [word for word in ("hunter2", "swordfish") if word in said.out + said.err]
    assert 0 == main(["ckpt", "collect", *halves, "--to", f"file://{tmp_path}/home"])
    assert (step_folder(tmp_path / "home", 50) / MANIFEST_NAME).is_file()
    capsys.readouterr()
    try:
        import s3fs  # noqa: F401, PLC0415
    except ImportError:
        assert 2 == main(["ckpt", "collect", *halves, "--to", "s3://key:hunter2@bucket/run"])
        said = capsys.readouterr().err
        assert ("python -m pip install s3fs" in said, "hunter2" in said) == (True, False)
    assert 2 == main(["ckpt", "collect", *halves, "--to", "gopher://bucket/run"])
