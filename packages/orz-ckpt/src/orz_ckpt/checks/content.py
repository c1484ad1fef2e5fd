"""Are the bytes those that were written, and are the numbers in them numbers?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.floats import FLOATS
from orz_ckpt.reading import Reading, read_once
from orz_ckpt.strict_json import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Header, Tensor
    from orz_ckpt.manifest import FileEntry

_COPY = "copy this file again from where it was saved, or use another checkpoint"
_OLDER = "use an older checkpoint; look at the losses and gradient norms before this step"
_MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One file to read from end to end."""

    path: Path
    size: int
    entry: FileEntry | None
    """What the manifest says; None where there is none."""
    header: Header | None
    """Of a sound safetensors file."""
    is_model: bool
    """Whether its tensors are the weights of a model, of which no matrix should be zero."""


@dataclass(frozen=True, slots=True)
class Read:
    """What reading one file found."""

    findings: tuple[CkptFinding, ...]
    matrices: int = 0
    """Weights of two dimensions or more whose numbers were looked at."""
    zero_matrices: int = 0


def read_file(job: Job, progress: Callable[[int], None]) -> Read:
    """Read one file once; a second time, where its digest is wrong, to find the tensors that changed."""
    algo = job.entry.algo if job.entry else "blake3"
    try:
        reading = read_once(job.path, job.header, algo=algo, numbers=True, progress=progress)
        findings = [*_digest(job, reading), *_numbers(job, reading)]
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        return Read((finding("unreadable", message, remedy=READ_AGAIN, path=job.path),))
    matrices = [tensor for tensor in _searched(job) if _is_matrix(tensor)] if job.is_model else []
    zero = [tensor for tensor in matrices if reading.numbers[tensor.name].largest == 0]
    if zero:
        named = ", ".join(brief(tensor.name) for tensor in zero[:_MAX_NAMED])
        message = f"{len(zero)} of {len(matrices)} weights are all zeros: {named}"
        remedy = "right for a layer that has not been trained yet; else save it again"
        findings.append(finding("all_zero", message, remedy=remedy, path=job.path, tensor=zero[0].name))
    return Read(tuple(findings), len(matrices), len(zero))


def all_zero(folder: Path, reads: list[Read]) -> Iterator[CkptFinding]:
    """Say whether nothing but zeros was found in a model: the trace of a writer of empty buffers."""
    matrices = sum(read.matrices for read in reads)
    if matrices and matrices == sum(read.zero_matrices for read in reads):
        message = f"all {matrices} weights are zero: nothing was copied into what was saved"
        yield finding("all_zero_model", message, remedy="save or merge the model again", path=folder)


def _digest(job: Job, reading: Reading) -> Iterator[CkptFinding]:
    if job.entry is None or reading.digest == job.entry.digest:
        return
    message = f"expected {job.entry.algo} {job.entry.digest[:16]}…, got {reading.digest[:16]}…"
    changed = _changed(job)
    if changed:
        places = ", ".join(
            f"{brief(tensor.name)} (bytes {tensor.offset:,}-{tensor.end:,})" for tensor in changed[:_MAX_NAMED]
        )
        more = f" and {len(changed) - _MAX_NAMED} more" if len(changed) > _MAX_NAMED else ""
        message += f": changed in {places}{more}"
    elif job.header and job.entry.tensors is not None:
        message += f": no tensor changed, so the header did (bytes 0-{job.header.data_offset:,})"
    tensor = changed[0].name if changed else ""
    yield finding("digest_differs", message, remedy=_COPY, path=job.path, tensor=tensor)


def _changed(job: Job) -> list[Tensor]:
    if job.header is None or job.entry is None or job.entry.tensors is None:
        return []
    digests = read_once(job.path, job.header, algo=job.entry.algo, tensor_digests=True).tensor_digests
    stated = job.entry.tensors
    return [
        tensor
        for tensor in job.header.tensors
        if tensor.name in stated and stated[tensor.name].digest != digests[tensor.name]
    ]


def _numbers(job: Job, reading: Reading) -> Iterator[CkptFinding]:
    if job.header is None:
        return
    bad = [tensor for tensor in _searched(job) if reading.numbers[tensor.name].nonfinite]
    for tensor in bad[:_MAX_NAMED]:
        numbers = reading.numbers[tensor.name]
        first = _coordinates(numbers.first_nonfinite, tensor)
        count = math.prod(tensor.shape)
        message = f"{brief(tensor.name)}: {numbers.nonfinite:,} of {count:,} numbers are NaN or Inf, first {first}"
        yield finding("not_finite", message, remedy=_OLDER, path=job.path, tensor=tensor.name)
    if len(bad) > _MAX_NAMED:
        message = f"and {len(bad) - _MAX_NAMED} more tensors hold NaN or Inf"
        yield finding("not_finite", message, remedy=_OLDER, path=job.path)
    others = sorted({tensor.dtype for tensor in job.header.tensors if tensor.dtype in _UNSEARCHED})
    if others:
        message = f"tensors of type {', '.join(others)} were not searched for NaN"
        yield finding("numbers_not_checked", message, path=job.path)


_UNSEARCHED = frozenset({"F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"})


def _searched(job: Job) -> list[Tensor]:
    return [tensor for tensor in job.header.tensors if tensor.dtype in FLOATS] if job.header else []


def _is_matrix(tensor: Tensor) -> bool:
    return len(tensor.shape) > 1 and tensor.nbytes > 0


def _coordinates(index: int, tensor: Tensor) -> str:
    """Return where the `index`-th number of the flattened tensor is, and its first byte in the file."""
    kind = FLOATS[tensor.dtype]
    offset = tensor.offset + index * kind.nbytes
    if tensor.dtype == "C64":
        index //= 2
    place: list[int] = []
    for size in reversed(tensor.shape):
        index, position = divmod(index, size)
        place.append(position)
    return f"at {place[::-1]}, byte {offset:,}"
