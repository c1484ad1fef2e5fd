"""Which file of which node goes where, and the one manifest of them all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orz_ckpt.cluster.collect.plan import overlapping, plan_group
from orz_ckpt.cluster.collect.records import merged_manifest, missing_nodes, read_records
from orz_ckpt.cluster.groups import Group, Located
from orz_ckpt.manifest import FileEntry, Manifest, UnsafePathError, dumps, loads
from orz_ckpt.node.pieces import LocatedPiece

pytestmark = pytest.mark.unit


def entry(name: str, size: int = 3) -> FileEntry:
    return FileEntry(size=size, digest=f"{hash(name) & 0xFFFF:064x}")


def manifest(files: dict[str, FileEntry], **fields: object) -> Manifest:
    made = Manifest(
        step=50,
        attempt="one",
        created="2026-11-22T10:00:00Z",
        writer="orz-train 0.1.0",
        roles={"policy": "policy"},
        files=files,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def group(*pieces: tuple[str, dict[str, int]], kind: str = "orz") -> Group:
    members = tuple(
        Located(
            piece=LocatedPiece(path=f"/{node}/r/checkpoints/step_000050", base=f"/{node}/r", kind=kind, files=files),
            nodes=(node,),
        )
        for node, files in pieces
    )
    return Group(rel="checkpoints/step_000050", kind=kind, step=50, members=members)


def test_a_recorded_folder_gives_what_is_recorded_another_all() -> None:
    """The driver's own files come along; leftovers beside recorded files stay, and are told."""
    weights = {"policy/model.safetensors": 3, "policy/model.safetensors.part": 1, ".orz/manifest-b.json": 9}
    plan = plan_group(
        group(("a", {"evaluation.json": 2}), ("b", {**weights, "manifest.json": 5, ".orz/manifest.pending": 5})),
        {"policy/model.safetensors": entry("model")},
    )
    assert [".orz/manifest-b.json", "evaluation.json", "policy/model.safetensors"] == [file.name for file in plan.files]
    assert ["/b/r/checkpoints/step_000050/policy/model.safetensors.part"] == [origin.path for origin in plan.left]
    assert 14 == plan.nbytes


def test_copies_of_different_size_are_a_conflict_that_names_both() -> None:
    """Unless a record says which is right."""
    two = group(("a", {"x": 1}), ("b", {"x": 2}))
    assert () == plan_group(two, {}).files
    (conflict,) = plan_group(two, {}).conflicts
    assert "1 bytes on a (/a/r/checkpoints/step_000050/x)" in conflict
    assert "2 bytes on b (/b/r/checkpoints/step_000050/x)" in conflict
    (file,) = plan_group(two, {"x": entry("x", size=2)}).files
    assert ["b"] == [origin.node for origin in file.origins]


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\x", "a\nb", "C:/x"])
def test_a_node_cannot_name_a_file_outside(name: str) -> None:
    """Names come from other machines; one that leads out of the checkpoint is refused."""
    with pytest.raises(UnsafePathError):
        plan_group(group(("a", {name: 1}), kind="hf"), {})


def test_a_foreign_manifest_is_an_ordinary_file() -> None:
    """Only in our own step folders is `manifest.json` made anew."""
    assert ["manifest.json"] == [
        file.name for file in plan_group(group(("a", {"manifest.json": 1}), kind="hf"), {}).files
    ]


def test_records_of_two_nodes_make_one_manifest() -> None:
    """It names the files of both, and what no record names."""
    one = manifest({"policy/1": entry("1")}, meta={"path": "/a"})
    two = manifest({"policy/2": entry("2")}, roles={"critic": "critic"})
    records = read_records([("a", {".orz/manifest-a.json": dumps(one)}), ("b", {".orz/manifest-b.json": dumps(two)})])
    made = merged_manifest(records, {"evaluation.json": entry("e")})
    assert made is not None
    found, text = made
    assert {"policy/1", "policy/2", "evaluation.json"} == set(found.files)
    assert {"policy": "policy", "critic": "critic"} == dict(found.roles)
    assert (50, "one", "/a") == (found.step, found.attempt, found.meta["path"])
    assert found == loads(text)


def test_a_manifest_that_says_it_all_stays_byte_for_byte() -> None:
    """A checkpoint that was whole on one node keeps its own manifest."""
    text = dumps(manifest({"policy/1": entry("1")}))
    altered = dumps(manifest({"policy/1": entry("1")}, meta={"later": 1}))
    made = merged_manifest(read_records([("a", {"manifest.json": text, ".orz/manifest-a.json": altered})]), {})
    assert made is not None
    assert text == made[1]


def test_records_that_contradict_each_other() -> None:
    """Two nodes that state different bytes of one name are told; a torn record is, too."""
    other = replace(entry("1"), digest="f" * 64)
    stated = {"a": entry("1"), "b": other}
    texts = [(node, {"manifest.json": dumps(manifest({"policy/1": found}))}) for node, found in stated.items()]
    records = read_records([*texts, ("c", {".orz/manifest-c.json": "{"})])
    assert ["policy/1"] == records.disagreements
    assert [("c", ".orz/manifest-c.json")] == [(bad.node, bad.name) for bad in records.unusable]
    assert merged_manifest(read_records([]), {}) is None


def test_nodes_that_took_part_and_left_no_record() -> None:
    """The records name all nodes of the save; one without a record is missing."""
    text = dumps(manifest({}, meta={"nodes": ["a", "b c"]}))
    assert ["b c"] == missing_nodes(read_records([("a", {".orz/manifest-a.json": text})]))
    assert [] == missing_nodes(read_records([("a", {".orz/manifest-a.json": text, ".orz/manifest-b_c.json": text})]))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("a/b", "a", True), ("a", "a/b", True), ("a", "ab", False), ("a", "a", False), ("", "a", True)],
)
def test_overlapping(first: str, second: str, expected: bool) -> None:
    """A folder in another one cannot appear with it as a whole."""
    assert expected == overlapping(first, second)
