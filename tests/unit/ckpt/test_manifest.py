"""The manifest contract: what is written can be read, what is torn, newer or hostile is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orz_ckpt import manifest as contract
from orz_ckpt.manifest import (
    FileEntry,
    Manifest,
    ManifestError,
    NewerManifestError,
    TensorEntry,
    TornManifestError,
    UnsafePathError,
    check_path,
    dumps,
    load,
    loads,
)

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
SCHEMA = json.loads((ROOT / "docs" / "reference" / "manifest-v1.schema.json").read_text(encoding="utf-8"))
GOLDEN_FILES = ["manifest_v1.json", "manifest_v1_minimal.json", "manifest_v1_unknown_keys.json"]

MANIFEST = Manifest(
    step=50,
    attempt="20261122T115959-0a1b2c3d",
    created="2026-11-22T12:00:00Z",
    writer="orz-train 0.1.0",
    config_sha256="c" * 64,
    roles={"policy": "policy", "critic": "critic"},
    files={
        "policy/model.safetensors": FileEntry(
            size=108,
            digest="1" * 64,
            chunks=("6" * 64,),
            sha256="7" * 64,
            tensors={
                "w": TensorEntry(dtype="BF16", shape=(2, 2), offset=96, nbytes=8, digest="2" * 64),
                "scalar": TensorEntry(dtype="F32", shape=(), offset=104, nbytes=4, digest="3" * 64),
            },
        ),
        "critic/config.json": FileEntry(size=2, algo="sha256", digest="4" * 64),
        "state/Schlüssel.bin": FileEntry(size=0, digest="5" * 64),
    },
    meta={"seed": 1, "reward": "0.85", "nested": {"list": [1, None, True, "ä"]}},
)


def sealed(document: dict[str, Any]) -> str:
    """Return `document` with the digest of whatever it says: only its fields can be wrong."""
    content = {key: value for key, value in document.items() if key != "manifest_sha256"}
    compact = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "manifest_sha256": hashlib.sha256(compact.encode()).hexdigest()})


def changed(**fields_: Any) -> str:
    return sealed({**json.loads(dumps(MANIFEST)), **fields_})


def test_golden_file_is_what_is_written() -> None:
    """A golden file made without this package is, byte for byte, what `dumps` writes."""
    assert (GOLDEN / "manifest_v1.json").read_text(encoding="ascii") == dumps(MANIFEST)


def test_unknown_keys_are_accepted() -> None:
    """Keys of a later writer change nothing of what a reader sees."""
    assert load(GOLDEN / "manifest_v1_unknown_keys.json") == MANIFEST


def test_minimal_manifest() -> None:
    """Configuration, roles, files and meta may be empty."""
    manifest = load(GOLDEN / "manifest_v1_minimal.json")

    assert (None, {}, {}, {}) == (manifest.config_sha256, manifest.roles, manifest.files, manifest.meta)


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_schema_accepts_golden_files(name: str) -> None:
    """The JSON Schema accepts every golden file."""
    jsonschema.validate(json.loads((GOLDEN / name).read_text(encoding="ascii")), SCHEMA)


def test_schema_is_one() -> None:
    """The JSON Schema follows its own specification."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_schema_and_docstring_name_every_field() -> None:
    """Every field of the dataclasses is in the docstring's table and in the schema."""
    assert contract.__doc__ is not None
    for kind, properties, prefix in (
        (Manifest, SCHEMA["properties"], ""),
        (FileEntry, SCHEMA["$defs"]["file"]["properties"], "files.*."),
        (TensorEntry, SCHEMA["$defs"]["tensor"]["properties"], "files.*.tensors.*."),
    ):
        for field in fields(kind):
            assert field.name in properties
            assert f"| `{prefix}{field.name}` |" in contract.__doc__


def test_round_trip() -> None:
    """What was written is what is read."""
    assert loads(dumps(MANIFEST)) == MANIFEST
    assert loads(dumps(MANIFEST).encode()) == MANIFEST


def test_root_is_about_bytes_only() -> None:
    """Two saves of the same bytes have one root; another byte or name gives another."""
    later = replace(MANIFEST, step=51, attempt="b", created="2027-01-01T00:00:00Z", meta={}, roles={})
    files = dict(MANIFEST.files)
    files["critic/config.json"] = FileEntry(size=2, algo="sha256", digest="6" * 64)

    assert MANIFEST.root_sha256 == later.root_sha256
    assert MANIFEST.root_sha256 != replace(MANIFEST, files=files).root_sha256


def test_total_bytes() -> None:
    """The size of a checkpoint is that of its files."""
    assert MANIFEST.total_bytes == 110


def test_every_truncation_is_torn() -> None:
    """A manifest cut off anywhere is never taken for a whole one."""
    text = dumps(MANIFEST)
    for length in range(len(text) - 2):
        with pytest.raises(TornManifestError):
            loads(text[:length])


def test_every_changed_character_is_noticed() -> None:
    """One other character anywhere makes the manifest unreadable, unless it means the same JSON."""
    text = dumps(MANIFEST)
    for position, character in enumerate(text):
        other = text[:position] + ("0" if character != "0" else "1") + text[position + 1 :]
        with pytest.raises(ManifestError):
            loads(other)


def test_newer_version_says_so() -> None:
    """A manifest of a later version is refused with that reason, whatever else it holds."""
    with pytest.raises(NewerManifestError, match=r"m\.json: version 2, and this reader knows up to 1"):
        loads(sealed({"v": 2, "content": []}), source="m.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a whole JSON document"),
        ("\x00\x00", "not a whole JSON document"),
        ("[1]", "expected an object"),
        ('{"v": 1, "v": 1}', "key 'v' appears twice"),
        ('{"v": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"v": ' + "9" * 5000 + "}", "not a whole JSON document"),
        ('{"v": true}', "v: expected an integer >= 0, got True"),
        ('{"v": 0}', "v: expected 1, got 0"),
        ('{"v": 1}', "manifest_sha256: expected a text"),
    ],
)
def test_garbage(text: str, message: str) -> None:
    """Anything that is no manifest is a ManifestError that says why."""
    with pytest.raises(ManifestError, match=message):
        loads(text)


def test_bytes_that_are_no_utf8() -> None:
    """Binary rubbish is a torn manifest."""
    with pytest.raises(TornManifestError):
        loads(b'{"v": "\xff"}')


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"step": -1}, "step: expected an integer >= 0, got -1"),
        ({"step": 1.0}, r"step: expected an integer >= 0, got 1\.0"),
        ({"step": 2**63}, "step: expected an integer >= 0"),
        ({"attempt": ""}, "attempt: expected a text"),
        ({"created": "yesterday"}, "created: expected YYYY-MM-DDTHH:MM:SSZ, got 'yesterday'"),
        ({"config_sha256": "abc"}, "config_sha256: expected 64 hexadecimal digits"),
        ({"roles": []}, "roles: expected an object"),
        ({"roles": {"policy": "/etc"}}, "roles.policy: '/etc' is not a plain relative path"),
        ({"files": {"../x": {}}}, "files: '../x' is not a plain relative path"),
        ({"files": {"x": {"size": 1, "algo": "md5", "digest": "0" * 64}}}, "files.x.algo: expected one of blake3"),
        ({"files": {"x": {"size": "1", "algo": "blake3", "digest": "0" * 64}}}, "files.x.size: expected an integer"),
        ({"root_sha256": "0" * 64}, "root_sha256: expected [0-9a-f]{64} for these files"),
    ],
)
def test_wrong_value(document: dict[str, Any], message: str) -> None:
    """A wrong value is named with its place, what was expected and what was found."""
    with pytest.raises(ManifestError, match=message):
        loads(changed(**document))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a//b",
        "a/",
        "./a",
        "a/./b",
        "..",
        "a/../b",
        "a\\b",
        "C:/a",
        "c:a",
        "a/C:b",
        "a\nb",
        "a\x00b",
        "\ud800",
    ],
)
def test_unsafe_path(path: str) -> None:
    """A path that leaves the folder on any system is refused by reader, writer and, where it can, schema."""
    with pytest.raises(UnsafePathError):
        check_path(path)
    with pytest.raises(UnsafePathError):
        dumps(replace(MANIFEST, files={path: FileEntry(size=0, digest="0" * 64)}))
    if path != "\ud800":
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(path, {"$ref": "#/$defs/path", "$defs": SCHEMA["$defs"]})


@pytest.mark.parametrize("path", ["a", "a/b", "policy/model-00001-of-00002.safetensors", "..a", "a..", "ü/ß b"])
def test_safe_path(path: str) -> None:
    """An ordinary relative path is left as it is."""
    assert path == check_path(path)
    jsonschema.validate(path, {"$ref": "#/$defs/path", "$defs": SCHEMA["$defs"]})


@pytest.mark.parametrize("meta", [{"x": 0.5}, {"x": [1, {"y": float("nan")}]}, {"x": object()}, {"x": {1: 2}}])
def test_meta_that_cannot_be_written(meta: dict[str, object]) -> None:
    """A float, or what is not JSON, is refused when writing, with its place."""
    with pytest.raises(ManifestError, match=r"meta\.x"):
        dumps(replace(MANIFEST, meta=meta))


def test_oversized_file_is_not_parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file larger than any manifest is refused before it is parsed."""
    (tmp_path / "manifest.json").write_text(dumps(MANIFEST), encoding="utf-8")
    monkeypatch.setattr(contract, "MAX_MANIFEST_BYTES", 10)
    with pytest.raises(ManifestError, match="no manifest needs more than 10 bytes"):
        load(tmp_path / "manifest.json")


def test_too_large_for_memory_is_not_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole document that would take too much memory is refused for that, and not as one that was cut off."""
    monkeypatch.setattr(contract, "_MEMORY_BYTES", 1000)
    with pytest.raises(ManifestError, match=r"^manifest: its values would take about .* 1,000 are allowed$") as caught:
        loads(dumps(MANIFEST))
    assert not isinstance(caught.value, TornManifestError)


def test_many_tensors_beside_a_name_that_is_no_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of a file in another script takes nothing of what the tensors need: 350 of them, in a thousandth."""
    tensor = TensorEntry(dtype="F32", shape=(1,), offset=0, nbytes=4, digest="2" * 64)
    tensors = {f"model.layers.{number}.mlp.experts.gate_proj.weight_scale": tensor for number in range(350)}
    file = FileEntry(size=4, digest="1" * 64, tensors=tensors)
    manifest = replace(MANIFEST, files={"policy/\u51fa.safetensors": file}, roles={"policy": "policy"})
    monkeypatch.setattr(contract, "_MEMORY_BYTES", contract._MEMORY_BYTES // 1000)
    assert manifest == loads(dumps(manifest).encode())


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """No file is not a broken manifest."""
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "manifest.json")


def test_module_needs_the_standard_library_only() -> None:
    """The contract loads without any installed package."""
    source = "import sys, orz_ckpt.manifest; print(*{name.partition('.')[0] for name in sys.modules})"
    path = str(Path(contract.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-S", "-c", source], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )

    assert {"orz_ckpt"} == set(run.stdout.split()) - sys.stdlib_module_names - {"__main__"}
