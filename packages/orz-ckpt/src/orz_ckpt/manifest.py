r"""The manifest: what a checkpoint contains, version 1. A contract between the writer and every reader.

A checkpoint folder holds one `manifest.json` at its top. It is written last, so its presence is the
commit: a folder without it was never finished. It covers every file below the folder by relative path
(itself and `.orz/` apart), so a checkpoint that was moved or copied still verifies. This module imports
the standard library only; readers in other packages and other programs can rely on it.

The document is a JSON object, keys sorted, UTF-8. It holds no floating-point number, so its digests do
not depend on how a language prints one.

| key | type | meaning |
|---|---|---|
| `v` | integer | version of this table, 1 |
| `created` | string | when it was committed, UTC, `YYYY-MM-DDTHH:MM:SSZ` |
| `writer` | string | name and version of the program, `orz-train 0.1.0` |
| `step` | integer >= 0 | the training step whose weights these are |
| `attempt` | string | id of the save; two saves of one step differ in it |
| `config_sha256` | string or null | SHA-256 of the run's resolved configuration, hexadecimal |
| `roles` | object | role (`policy`, `critic`) -> folder, relative |
| `files` | object | path, relative, `/` between parts -> file |
| `files.*.size` | integer >= 0 | bytes |
| `files.*.algo` | string | hash of the digests of this file: `blake3` or `sha256` |
| `files.*.digest` | string | hash of the file's bytes, 64 hexadecimal digits |
| `files.*.chunks` | array of strings, optional | hash of each 67,108,864 bytes of the file, the last part shorter |
| `files.*.sha256` | string, optional | SHA-256 of the file, as hubs state it, where `algo` is another |
| `files.*.tensors` | object, optional | of a safetensors file: name -> tensor |
| `files.*.tensors.*.dtype` | string | as in the safetensors header: `BF16`, `F32`, ... |
| `files.*.tensors.*.shape` | array of integers | `[]` for a scalar |
| `files.*.tensors.*.offset` | integer | first byte, counted from the start of the file |
| `files.*.tensors.*.nbytes` | integer | bytes |
| `files.*.tensors.*.digest` | string | hash of the tensor's bytes |
| `meta` | object | whatever the writer wants to keep; no floats, write such a number as text |
| `root_sha256` | string | SHA-256 over path, size, algo and digest of all files: equal bytes, equal root |
| `manifest_sha256` | string | SHA-256 over everything else in this document |

Both digests are taken over compact canonical JSON: keys sorted, no spaces, ASCII with `\u` escapes.

Readers accept unknown keys and every older version, and refuse a newer one. The JSON Schema is
`docs/reference/manifest-v1.schema.json`; files that every reader must understand are in `tests/golden/`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Final

from orz_ckpt import strict_json
from orz_ckpt.strict_json import (
    FieldError,
    JsonError,
    TooLargeError,
    as_object,
    integer_field,
    object_field,
    parse,
    sizes_field,
    text_field,
)

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
PRIVATE_DIR: Final = ".orz"
"""Book-keeping beside the weights; the manifest does not cover it."""
ALGORITHMS: Final = ("blake3", "sha256")
CHUNK_BYTES: Final = 64 * 1024 * 1024
"""Of what `files.*.chunks` states the hashes; a file of so many bytes or fewer needs none."""
MAX_MANIFEST_BYTES: Final = 160 * 1024 * 1024
"""A manifest of 100,000 tensors takes about 30 MB; more than this is not one."""
_MEMORY_BYTES: Final = 2 * strict_json.MAX_MEMORY_BYTES
"""It says more of each tensor than a header does; this is enough for 350,000."""

_HEX_64 = re.compile(r"[0-9a-f]{64}")
_CREATED = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


class ManifestError(ValueError):
    """A manifest is missing a field, holds a wrong value, or cannot be written as it is."""


class TornManifestError(ManifestError):
    """The text is not a whole manifest: cut off, altered, or not JSON at all."""


class NewerManifestError(ManifestError):
    """The manifest is of a version that this reader does not know."""


class UnsafePathError(ManifestError):
    """A path leaves the checkpoint folder, or could on some system."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorEntry:
    """Where one tensor lies in its safetensors file, and the digest of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    """First byte, from the start of the file."""
    nbytes: int
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """Size in bytes and digest of one file."""

    size: int
    digest: str
    algo: str = "blake3"
    tensors: Mapping[str, TensorEntry] | None = None
    """Of a safetensors file; None for any other."""
    chunks: tuple[str, ...] = ()
    """Digests of each `CHUNK_BYTES`; empty where they were not written down."""
    sha256: str = ""
    """Of the file; empty where it was not written down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a checkpoint contains; the field table is the module's docstring.

    Example:
        >>> manifest = load(Path("checkpoints/step_000050/manifest.json"))
        >>> manifest.files["policy/model.safetensors"].size
    """

    step: int
    attempt: str
    created: str
    writer: str
    files: Mapping[str, FileEntry]
    config_sha256: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, object] = field(default_factory=dict)

    @property
    def root_sha256(self) -> str:
        """SHA-256 over path, size, algo and digest of all files."""
        return _sha256({path: [entry.size, entry.algo, entry.digest] for path, entry in self.files.items()})

    @property
    def total_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())


def load(path: Path) -> Manifest:
    """Read the manifest in `path`.

    Raises:
        ManifestError: it is torn, newer than this reader, or not valid.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ManifestError(f"{path}: not a plain file")
    with path.open("rb") as stream:
        if stream.read(1) == b"\0":  # of any size: nothing more of it needs to be read
            raise TornManifestError(f"{path}: it begins with zeros: what was written never reached the disk")
        stream.seek(0)
        check_size(os.fstat(stream.fileno()).st_size, source=str(path))
        data = stream.read(MAX_MANIFEST_BYTES + 1)
    return loads(data, source=str(path))


def check_size(nbytes: int, *, source: str = "manifest") -> None:
    """Check that a manifest of so many bytes can be one, before any of them is read.

    Raises:
        ManifestError: it is too large.
    """
    if nbytes > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"{source}: it has {nbytes:,} bytes; no manifest needs more than {MAX_MANIFEST_BYTES:,} bytes"
        )


def loads(data: bytes | str, *, source: str = "manifest") -> Manifest:
    """Parse a manifest and check both of its digests.

    Args:
        data: the document; bytes are UTF-8.
        source: what to call it in an error.

    Raises:
        ManifestError: it is torn, newer than this reader, or not valid.
    """
    check_size(len(data), source=source)
    try:
        return _from_document(as_object(parse(data, memory_bytes=_MEMORY_BYTES), where="the document"))
    except TooLargeError as error:
        raise ManifestError(f"{source}: {error}") from None
    except JsonError as error:
        raise TornManifestError(f"{source}: not a whole JSON document: {error}") from None
    except FieldError as error:
        raise ManifestError(f"{source}: {error}") from None
    except ManifestError as error:
        raise type(error)(f"{source}: {error}") from None


def dumps(manifest: Manifest) -> str:
    """Write `manifest` as canonical JSON: keys sorted, two spaces of indent, a newline at the end.

    Raises:
        ManifestError: a field is not what the table allows, such as a float in `meta`.
    """
    document = _to_document(manifest)
    _refuse_floats(document, "")
    document["manifest_sha256"] = _sha256(document)
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    loads(text)
    return text


def check_path(path: str, *, where: str = "path") -> str:
    """Return `path` if it names something below the folder it is relative to, on every system.

    Raises:
        UnsafePathError: it is empty, absolute, holds `..`, a backslash, a drive or a control character.
    """
    parts = path.split("/")
    if (
        not path
        or any(part in {"", ".", ".."} for part in parts)
        or "\\" in path
        or not path.isprintable()
        or PurePosixPath(path).is_absolute()
        or any(PureWindowsPath(part).drive for part in parts)
    ):
        raise UnsafePathError(f"{where}: {path!r} is not a plain relative path")
    return path


def _to_document(manifest: Manifest) -> dict[str, object]:
    """Return everything but `manifest_sha256`."""
    files: dict[str, object] = {}
    for path, entry in manifest.files.items():
        file: dict[str, object] = {"size": entry.size, "algo": entry.algo, "digest": entry.digest}
        if entry.chunks:
            file["chunks"] = list(entry.chunks)
        if entry.sha256:
            file["sha256"] = entry.sha256
        if entry.tensors is not None:
            file["tensors"] = {
                name: {
                    "dtype": tensor.dtype,
                    "shape": list(tensor.shape),
                    "offset": tensor.offset,
                    "nbytes": tensor.nbytes,
                    "digest": tensor.digest,
                }
                for name, tensor in entry.tensors.items()
            }
        files[path] = file
    return {
        "v": VERSION,
        "created": manifest.created,
        "writer": manifest.writer,
        "step": manifest.step,
        "attempt": manifest.attempt,
        "config_sha256": manifest.config_sha256,
        "roles": dict(manifest.roles),
        "files": files,
        "meta": dict(manifest.meta),
        "root_sha256": manifest.root_sha256,
    }


def _from_document(document: dict[str, object]) -> Manifest:
    version = integer_field(document, "v")
    if version > VERSION:
        raise NewerManifestError(f"version {version}, and this reader knows up to {VERSION}; upgrade orz-ckpt")
    if version < 1:
        raise ManifestError(f"v: expected 1, got {version}")
    stated = _digest(document, "manifest_sha256")
    found = _sha256({key: value for key, value in document.items() if key != "manifest_sha256"})
    if stated != found:
        raise TornManifestError(f"altered after it was written: manifest_sha256 is {stated}, its content gives {found}")
    created = text_field(document, "created")
    if not _CREATED.fullmatch(created):
        raise ManifestError(f"created: expected YYYY-MM-DDTHH:MM:SSZ, got {created!r}")
    roles = object_field(document, "roles")
    manifest = Manifest(
        step=integer_field(document, "step"),
        attempt=text_field(document, "attempt"),
        created=created,
        writer=text_field(document, "writer"),
        config_sha256=None if document.get("config_sha256") is None else _digest(document, "config_sha256"),
        roles={role: check_path(text_field(roles, role, where="roles."), where=f"roles.{role}") for role in roles},
        files={path: _file(path, value) for path, value in object_field(document, "files").items()},
        meta=object_field(document, "meta"),
    )
    root = _digest(document, "root_sha256")
    if root != manifest.root_sha256:
        raise ManifestError(f"root_sha256: expected {manifest.root_sha256} for these files, got {root}")
    return manifest


def _file(path: str, value: object) -> FileEntry:
    check_path(path, where="files")
    where = f"files.{path}"
    document = as_object(value, where=where)
    algo = text_field(document, "algo", where=f"{where}.")
    if algo not in ALGORITHMS:
        raise ManifestError(f"{where}.algo: expected one of {', '.join(ALGORITHMS)}, got {algo!r}")
    tensors = object_field(document, "tensors", where=f"{where}.") if "tensors" in document else None
    size = integer_field(document, "size", where=f"{where}.")
    return FileEntry(
        size=size,
        algo=algo,
        digest=_digest(document, "digest", where=f"{where}."),
        tensors=None if tensors is None else {name: _tensor(where, name, entry) for name, entry in tensors.items()},
        chunks=_chunks(document, size, where=where),
        sha256=_digest(document, "sha256", where=f"{where}.") if "sha256" in document else "",
    )


def _chunks(document: Mapping[str, object], size: int, *, where: str) -> tuple[str, ...]:
    chunks = document.get("chunks", [])
    if not isinstance(chunks, list) or not all(isinstance(item, str) and _HEX_64.fullmatch(item) for item in chunks):
        raise ManifestError(f"{where}.chunks: expected a list of texts of 64 hexadecimal digits")
    expected = -(-size // CHUNK_BYTES)
    if chunks and len(chunks) != expected:
        raise ManifestError(f"{where}.chunks: expected {expected} of them for {size:,} bytes, got {len(chunks)}")
    return tuple(chunks)


def _tensor(file: str, name: str, value: object) -> TensorEntry:
    where = f"{file}.tensors.{name}"
    document = as_object(value, where=where)
    return TensorEntry(
        dtype=text_field(document, "dtype", where=f"{where}."),
        shape=sizes_field(document, "shape", where=f"{where}."),
        offset=integer_field(document, "offset", where=f"{where}."),
        nbytes=integer_field(document, "nbytes", where=f"{where}."),
        digest=_digest(document, "digest", where=f"{where}."),
    )


def _digest(document: Mapping[str, object], key: str, *, where: str = "") -> str:
    value = text_field(document, key, where=where)
    if not _HEX_64.fullmatch(value):
        raise ManifestError(f"{where}{key}: expected 64 hexadecimal digits, got {value!r}")
    return value


def _refuse_floats(value: object, where: str) -> None:
    if isinstance(value, float):
        raise ManifestError(f"{where or 'value'}: {value!r} is a float; write it as text")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ManifestError(f"{where or 'value'}: key {key!r} is not a text")
            _refuse_floats(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_floats(item, f"{where}[{index}]")
    elif not isinstance(value, str | int | None):
        raise ManifestError(f"{where or 'value'}: {type(value).__name__} is not a JSON value")


def _sha256(value: object) -> str:
    """Hash compact canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
