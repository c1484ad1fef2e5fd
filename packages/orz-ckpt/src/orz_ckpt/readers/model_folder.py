"""A safetensors file, a Hugging Face folder of them, or one of our step and role folders, as a `Source`.

The folder is arranged and checked as `verify --level quick` does: what it finds is in the source's findings.
Layout: `save_pretrained` of transformers (4.x and 5.x), and `orz_ckpt.manifest`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.files import compare_files, list_files
from orz_ckpt.checks.headers import check_header
from orz_ckpt.checks.index import check_index
from orz_ckpt.checks.manifest import check_manifest
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, conclude, finding
from orz_ckpt.formats.hf import INDEX_SUFFIX, arrange, read_config
from orz_ckpt.formats.safetensors import SUFFIX, Header, Tensor
from orz_ckpt.quoting import brief
from orz_ckpt.strict_json import is_size
from orz_ckpt.subject import Kind, Subject, identify
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.source import Block, Source, SourceTensor, c_strides, whole
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orz_ckpt.manifest import Manifest

_BYTE: Final = 8
_SAVE_AGAIN: Final = "save the model again"


def recognises(path: Path) -> bool:
    """Return whether `path` is a safetensors file or a folder with some, by names alone."""
    if path.is_dir():
        return any(entry.name.endswith((SUFFIX, INDEX_SUFFIX)) for entry in path.iterdir())
    return path.suffix == SUFFIX


def read(path: Path) -> Source:
    """List the tensors of a safetensors file or of a folder of them, in the order of their files.

    Raises:
        OSError: the folder cannot be listed.
    """
    subject = identify(path)
    manifest, findings = check_manifest(subject.root) if subject.kind in {Kind.CHECKPOINT, Kind.PART} else (None, [])
    listing = list_files(subject.root, subject.prefix, deep=False)
    findings += listing.findings
    if manifest is not None:
        findings += _compare(subject, manifest)
    files = [path / Path(name).name if path.is_dir() else path for name in listing.sizes]
    found, headers = _headers(file for file in files if file.suffix == SUFFIX)
    findings += found
    loaded = list(headers)
    if path.is_dir():
        found, loaded = check_index(arrange(path, files), headers)
        findings += found
    tensors: dict[str, SourceTensor] = {}
    for file in loaded:
        for tensor in headers[file].tensors if file in headers else ():
            if DTYPE_BITS[tensor.dtype] % _BYTE:
                message = f"{brief(tensor.name)} is {tensor.dtype}, of which several numbers share a byte"
                findings.append(finding("weights_not_read", message, path=file, tensor=tensor.name))
            elif tensor.name not in tensors:  # check_index has reported a second one
                tensors[tensor.name] = _whole(file, tensor)
    if not tensors and conclude(findings) is Status.OK:
        findings.append(finding("no_weights", "it holds no tensor", remedy=_SAVE_AGAIN, path=path))
    return Source(
        path=path,
        format="hf" if path.is_dir() else "safetensors",
        tensors=tensors,
        step=_step(manifest),
        writer=manifest.writer if manifest else _writer(path),
        files=tuple(files),
        findings=tuple(findings),
    )


def _step(manifest: Manifest | None) -> int | None:
    """Return the step, None where there is none: what was merged or described later may have had none."""
    if manifest is None:
        return None
    made_from = manifest.meta.get("source")
    return manifest.step if not isinstance(made_from, dict) or is_size(made_from.get("step")) else None


def _compare(subject: Subject, manifest: Manifest) -> list[CkptFinding]:
    """Compare names and sizes with what was committed."""
    return compare_files(subject.root, subject.prefix, manifest, list_files(subject.root, subject.prefix))


def _headers(files: Iterable[Path]) -> tuple[list[CkptFinding], dict[Path, Header]]:
    findings: list[CkptFinding] = []
    headers: dict[Path, Header] = {}
    for file in files:
        header, found = check_header(file)
        findings += found
        if header is not None:
            headers[file] = header
    return findings, headers


def _whole(file: Path, tensor: Tensor) -> SourceTensor:
    block = Block(
        path=file, offset=tensor.offset, dtype=tensor.dtype, shape=tensor.shape, strides=c_strides(tensor.shape)
    )
    return whole(tensor.name, block)


def _writer(path: Path) -> str:
    """Return the version of transformers that wrote `config.json`, where it says so."""
    try:
        version = read_config(path / "config.json").get("transformers_version") if path.is_dir() else None
    except (FormatError, OSError):
        return ""
    return f"transformers {version}" if isinstance(version, str) and version.isprintable() else ""
