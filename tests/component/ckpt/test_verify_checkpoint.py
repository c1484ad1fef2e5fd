"""Step folders and their parts: whatever happened to them is found and named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.entries import describe
from orz_ckpt.findings import Level, Report
from orz_ckpt.manifest import dumps, load
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.component

SHARD = "policy/model-00001-of-00002.safetensors"


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def errors(report: Report) -> list[tuple[str, str]]:
    """Return code and path, seen from the report's, of every error."""
    return [
        (entry.code, os.path.relpath(entry.path, report.path))
        for entry in report.findings
        if entry.severity is Severity.ERROR
    ]


@pytest.mark.parametrize("level", list(Level))
def test_whole_checkpoint(step: Path, level: Level) -> None:
    """A committed checkpoint has no finding but how much was sampled, and the report counts what was looked at."""
    report = verify(step, level=level)

    assert (Status.OK, {Level.SAMPLE: ["sampled"], Level.DEEP: ["one_copy"]}.get(level, [])) == (
        report.status(),
        [entry.code for entry in report.findings],
    )
    assert 9 == report.files
    assert load(step / "manifest.json").total_bytes == report.bytes
    assert 27 + 27 == report.tensors


def test_moved_checkpoint(step: Path, tmp_path: Path) -> None:
    """A checkpoint that was copied elsewhere under another name verifies."""
    shutil.copytree(step, tmp_path / "final")

    assert () == verify(tmp_path / "final").findings


def test_every_flipped_byte_is_found(step: Path) -> None:
    """One bit anywhere in any file fails, and the file is named."""
    for name, entry in load(step / "manifest.json").files.items():
        for position in {0, entry.size // 2, entry.size - 1}:
            flip(step / name, position)
            report = verify(step)
            assert Status.FAILED is report.status()
            assert ("digest_differs", name) in errors(report)
            flip(step / name, position)

    assert Status.OK is verify(step).status()


def test_flipped_byte_names_the_tensor_and_its_place(step: Path) -> None:
    """The finding says which tensor changed, between which bytes, and both digests."""
    tensors = load(step / "manifest.json").files[SHARD].tensors
    assert tensors is not None
    name, tensor = "model.layers.0.mlp.gate_proj.weight", tensors["model.layers.0.mlp.gate_proj.weight"]
    flip(step / SHARD, tensor.offset + 5)

    (found,) = verify(step).findings

    assert ("digest_differs", name, str(step / SHARD)) == (found.code, found.tensor, found.path)
    assert f"changed in '{name}' (bytes {tensor.offset:,}-{tensor.offset + tensor.nbytes:,})" in found.message
    assert load(step / "manifest.json").files[SHARD].digest[:16] in found.message


def test_quick_does_not_read_the_bytes(step: Path) -> None:
    """A flipped byte inside a tensor is for the full level to find."""
    flip(step / SHARD, -1)

    assert Status.OK is verify(step, level=Level.QUICK).status()
    assert Status.FAILED is verify(step, level=Level.FULL).status()


@pytest.mark.parametrize("name", [SHARD, "critic/config.json", "state/rank_0.bin", "policy/tokenizer.json"])
def test_missing_file(step: Path, name: str) -> None:
    """A missing file is the one finding, at both levels."""
    (step / name).unlink()
    for level in Level:
        assert [("file_missing", name)] == errors(verify(step, level=level))


def test_a_missing_file_that_another_node_holds(step: Path) -> None:
    """Of a save to a disk on each node the finding says whose has it, and how to find it; another file is as ever."""
    manifest = load(step / "manifest.json")
    held = {"gpu-01": ["critic/config.json"], "gpu-02": [SHARD], "gpu-\x1b[2J": [SHARD]}
    (step / "manifest.json").write_text(dumps(replace(manifest, meta={**manifest.meta, "nodes": held})))
    for name in (SHARD, "state/rank_0.bin"):
        (step / name).unlink()
    found = {os.path.relpath(entry.path, step): entry for entry in verify(step).findings}
    assert found[SHARD].message.endswith(" bytes expected; it was saved on the disk of 'gpu-\\x1b[2J', 'gpu-02'")
    assert str(found[SHARD].remedy).startswith(f"orz ckpt locate {step.parent.parent} --ray")
    assert found["state/rank_0.bin"].message.endswith(" bytes expected")
    assert "locate" not in str(found["state/rank_0.bin"].remedy)


@pytest.mark.parametrize(("nodes", "looks"), [(["gpu-01", "gpu-02"], True), (["gpu-01"], False)])
def test_a_missing_file_of_a_step_that_several_nodes_saved(step: Path, nodes: list[str], looks: bool) -> None:
    """Where the manifest does not say whose it is, another node may have it: the way to look for it is told."""
    manifest = load(step / "manifest.json")
    (step / "manifest.json").write_text(dumps(replace(manifest, meta={**manifest.meta, "nodes": nodes})))
    (step / SHARD).unlink()
    (found,) = (entry for entry in verify(step).findings if entry.code == "file_missing")
    looking = f"2 nodes saved this step, and another may have it: orz ckpt locate {step.parent.parent} --ray"
    assert looks == (looking in str(found.remedy))
    assert looks == ("locate" in str(found.remedy))


@pytest.mark.parametrize("name", ["policy/model-00003-of-00003.safetensors", "notes.txt", "state/deep/er.bin"])
def test_extra_file(step: Path, name: str) -> None:
    """A file that the manifest does not name is the one finding, at both levels."""
    (step / name).parent.mkdir(exist_ok=True)
    (step / name).write_bytes(b"123")
    for level in Level:
        assert [("file_extra", name)] == errors(verify(step, level=level))


def test_truncated_shard(step: Path) -> None:
    """A shard cut short is the one finding, with expected and found size and the first tensor that is lost."""
    size = (step / SHARD).stat().st_size
    os.truncate(step / SHARD, size - 1000)
    for level in Level:
        notes = {"sampled", "one_copy"}
        (found,) = (entry for entry in verify(step, level=level).findings if entry.code not in notes)
        assert ("size_differs", str(step / SHARD)) == (found.code, found.path)
        assert f"expected {size:,} bytes, got {size - 1000:,}: 1,000 bytes are missing, from tensor" in found.message
        assert found.tensor in found.message


def test_every_kind_of_damage_at_once(step: Path) -> None:
    """Several damages are all reported in one run."""
    flip(step / SHARD, -1)
    (step / "critic" / "config.json").unlink()
    (step / "state" / "more.bin").write_bytes(b"")

    assert {
        ("digest_differs", SHARD),
        ("file_missing", "critic/config.json"),
        ("file_extra", "state/more.bin"),
    } == set(errors(verify(step)))


def test_manifest_removed(step: Path) -> None:
    """A step folder without manifest was never committed, whatever it holds."""
    (step / "manifest.json").unlink()

    assert [("uncommitted", "manifest.json")] == errors(verify(step))


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -2])
def test_manifest_torn(step: Path, keep: int) -> None:
    """A manifest cut off anywhere fails as such."""
    path = step / "manifest.json"
    path.write_bytes(path.read_bytes()[:keep] if keep != -1 else path.read_bytes()[:-2])

    assert [("manifest_torn", "manifest.json")] == errors(verify(step))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="other systems have no named pipes")
@pytest.mark.parametrize("make", [os.mkdir, getattr(os, "mkfifo", None)])
def test_manifest_that_is_no_file(step: Path, make: Callable[[Path], None]) -> None:
    """The command that puts the copy of the save in its place removes first what stands there."""
    path = step / "manifest.json"
    path.unlink()
    make(path)
    (found,) = verify(step).findings
    assert "manifest_invalid" == found.code
    subprocess.run(["sh", "-c", found.remedy.rpartition("verify again: ")[2]], check=True, timeout=60)

    assert Status.OK is verify(step).status()


def test_manifest_of_another_step(step: Path) -> None:
    """A folder that was renamed to another step is not that step."""
    other = step.rename(step.with_name("step_000051"))

    assert [("step_differs", "manifest.json")] == errors(verify(other))


def test_manifest_of_a_later_version(step: Path) -> None:
    """A newer manifest cannot be judged: inconclusive, and no pass."""
    document = json.loads((step / "manifest.json").read_text(encoding="utf-8"))
    (step / "manifest.json").write_text(json.dumps({**document, "v": 2}), encoding="utf-8")
    report = verify(step)

    assert (Status.INCONCLUSIVE, [("manifest_newer", "manifest.json")]) == (report.status(), errors(report))


def test_header_that_contradicts_the_manifest(step: Path) -> None:
    """A header changed without a change of size is found without reading the tensors."""
    data = (step / SHARD).read_bytes()
    (step / SHARD).write_bytes(data.replace(b'"F32"', b'"I32"', 1))
    ((code, path),) = errors(verify(step, level=Level.QUICK))

    assert ("tensor_differs", SHARD) == (code, path)


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../outside.bin"])
def test_link_out_of_the_checkpoint(step: Path, tmp_path: Path, target: str) -> None:
    """A link that leaves the checkpoint is refused, and what it leads to is not opened."""
    (tmp_path / "run" / "outside.bin").write_bytes(b"secret")
    (step / "policy" / "config.json").unlink()
    (step / "policy" / "config.json").symlink_to(target)
    report = verify(step)

    assert (Status.REFUSED, [("path_escapes", "policy/config.json")]) == (report.status(), errors(report))


def test_linked_folder(step: Path, tmp_path: Path) -> None:
    """A role folder that is a link to somewhere else is refused, whether asked for alone or with the rest."""
    (step / "policy").rename(tmp_path / "elsewhere")
    (step / "policy").symlink_to(tmp_path / "elsewhere")

    assert Status.REFUSED is verify(step).status()
    assert Status.REFUSED is verify(step / "policy").status()


def test_linked_manifest(step: Path, tmp_path: Path) -> None:
    """A manifest that is a link is refused."""
    (step / "manifest.json").rename(tmp_path / "manifest.json")
    (step / "manifest.json").symlink_to(tmp_path / "manifest.json")

    assert Status.REFUSED is verify(step).status()


def test_manifest_with_a_path_that_escapes(step: Path) -> None:
    """A manifest that names a file outside is refused."""
    path = step / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace("state/rank_0.bin", "../rank_0.bin"), encoding="utf-8")

    assert Status.FAILED is verify(step).status()  # altered: its own digest no longer fits
    forged = _resealed(path)
    path.write_text(forged, encoding="utf-8")

    assert Status.REFUSED is verify(step).status()


def _resealed(path: Path) -> str:
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["manifest_sha256"]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return json.dumps({**document, "manifest_sha256": hashlib.sha256(text.encode()).hexdigest()})


def test_device_in_the_checkpoint(step: Path) -> None:
    """A pipe is reported and not opened: reading it would never end."""
    os.mkfifo(step / "policy" / "model.safetensors")

    assert [("not_a_file", "policy/model.safetensors")] == errors(verify(step))


def test_links_in_a_circle(step: Path) -> None:
    """What cannot be read is inconclusive, never a pass."""
    (step / "policy" / "config.json").unlink()
    (step / "policy" / "config.json").symlink_to("config.json")
    report = verify(step)

    assert (Status.INCONCLUSIVE, [("unreadable", "policy/config.json")]) == (report.status(), errors(report))


@pytest.mark.parametrize("part", ["policy", "critic", "state", SHARD, "state/rank_0.bin"])
def test_part_of_a_checkpoint(step: Path, part: str) -> None:
    """A folder or file in a checkpoint is covered by its manifest, and damage elsewhere is not its matter."""
    (step / "unrelated.bin").write_bytes(b"")

    assert () == verify(step / part).findings
    victim = next(path for path in sorted([step / part, *(step / part).rglob("*")]) if path.is_file())
    flip(victim, -1)
    report = verify(step / part)

    assert Status.FAILED is report.status()
    assert {str(victim)} == {entry.path for entry in report.findings}


def test_part_named_from_inside(step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, or `.`, finds the checkpoint around it."""
    monkeypatch.chdir(step / "policy")

    assert "part" == verify(Path()).kind
    assert 4 + 1 == verify(Path()).files
    assert "checkpoint" == verify(Path("..")).kind
    flip(step / SHARD, -1)

    assert Status.FAILED is verify(Path(Path(SHARD).name)).status()


def test_save_in_flight(step: Path) -> None:
    """A temporary folder is uncommitted, and says that it may still be written."""
    flying = step.with_name("step_000060.tmp-abc")
    (flying / "policy").mkdir(parents=True)
    report = verify(flying)

    assert "uncommitted" in {code for code, _ in errors(report)}
    assert "this save is going on, or was cut off" in report.findings[0].message


def test_step_of_a_corrupted_number(step: Path) -> None:
    """NaN that was saved faithfully is still an error, with its tensor, place and byte."""
    path = step / "critic" / "model.safetensors"
    tensors = load_file(path)
    tensors["score.weight"][0, 3] = np.inf
    tensors["score.weight"][0, 7] = np.nan
    save_file(tensors, path)

    with stage(step.with_name("step_000051")) as staged:
        shutil.copytree(step / "critic", staged.path / "critic")
        staged.commit(step=51, roles={"critic": "critic"}, writer="test 1")
    found, note = sorted(verify(step.with_name("step_000051")).findings, key=lambda entry: entry.severity)
    offset = load(step.with_name("step_000051") / "manifest.json").files["critic/model.safetensors"].tensors

    assert ("not_finite", "score.weight", "no_state") == (found.code, found.tensor, note.code)
    assert offset is not None
    assert "'score.weight': 2 of 16 numbers are NaN or Inf, first at [0, 3]" in found.message
    assert f"byte {offset['score.weight'].offset + 12:,}" in found.message


def test_forged_digest_does_not_help(step: Path) -> None:
    """A manifest rewritten for changed bytes verifies: it is a checksum, not a signature. The root then differs."""
    before = load(step / "manifest.json")
    flip(step / "state" / "rank_0.bin", 0)
    (step / "manifest.json").unlink()
    (step / "manifest.json").write_text(dumps(replace(before, files=describe(step))), encoding="utf-8")

    assert Status.OK is verify(step).status()
    assert before.root_sha256 != load(step / "manifest.json").root_sha256


def test_unreadable_file(step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the system will not let us read makes the answer inconclusive, and names it."""
    deny(monkeypatch, step / "state" / "rank_0.bin")
    report = verify(step)

    assert (Status.INCONCLUSIVE, [("unreadable", "state/rank_0.bin")]) == (report.status(), errors(report))
    assert "Permission denied" in report.findings[0].message


def deny(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let opening `path` fail as for a user without permission; root, who runs CI, has all of them."""
    original: Callable[..., int] = os.open

    def refuse(name: object, *arguments: object, **options: object) -> int:
        if name == path:
            raise PermissionError(13, "Permission denied", str(path))
        return original(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
