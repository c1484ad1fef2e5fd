"""Are the bytes those that were written? One pass over a file, and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orz_ckpt.checks.checksums import check_records, named, wrong_records
from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.checks.numbers import largest_of_weights, not_finite, only_of_weights, zero_matrices
from orz_ckpt.checks.spread import check_constant, check_outliers, statistics_of, uniform_weights
from orz_ckpt.checks.strided import look_at_strided
from orz_ckpt.disk.reading import Reading, read_once
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.torch_contents import damaged_tensors
from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.formats.cut_contents import Placed
    from orz_ckpt.formats.safetensors import Header, Tensor
    from orz_ckpt.formats.torch_contents import TorchContents
    from orz_ckpt.manifest import FileEntry
    from orz_ckpt.tensors.statistics import TensorStatistics
    from orz_ckpt.watch import Progress

    Opened = tuple[TorchContents | None, Mapping[str, Placed], list[CkptFinding]]
    """What a file holds, which parts of the model that is, and what was found."""

_COPY = "copy this file again from where it was saved, or use another checkpoint"
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
    torch: TorchContents | None = None
    """Of a sound torch file."""
    open: Callable[[], Opened] | None = None
    """Finds out what a file holds when it is its turn, where there is too much of that to keep for all files."""
    parts: Mapping[str, Placed] = field(default_factory=dict)
    """Of a shard: which part of which tensor of the model each of its tensors is."""
    is_model: bool = False
    """Whether its tensors are the weights of a model, of which no matrix should be zero."""
    hashed: frozenset[str] = frozenset()
    """Tensors to take the digests of."""
    statistics: bool = False
    """Whether to take those of each tensor."""


@dataclass(frozen=True, slots=True)
class Read:
    """What reading one file found."""

    findings: tuple[CkptFinding, ...]
    matrices: int = 0
    """Weights of two dimensions or more whose numbers were looked at."""
    zero_matrices: int = 0
    largest: Mapping[str, int] = field(default_factory=dict)
    """Of a shard: the largest magnitude, as bits, of each tensor of the model that lies in it."""
    only: Mapping[str, int | None] = field(default_factory=dict)
    """Of a shard: the bits that all numbers have of what lies in it of each tensor; None where two differ."""
    statistics: tuple[TensorStatistics, ...] = ()
    """Of the tensors in it, where they were asked for."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of the tensors that were to be hashed."""
    vouched: bool = False
    """Whether its bytes are those of its digest in a manifest."""


def read_file(job: Job, progress: Progress) -> Read:
    """Read one file once; a second time, where its digest is wrong, to find the tensors that changed."""
    algo = job.entry.algo if job.entry else None
    try:
        findings: list[CkptFinding] = []
        if job.open is not None:
            contents, parts, findings = job.open()
            job = replace(job, torch=contents, parts=parts)
        reading = read_once(
            job.path,
            job.header or job.torch,
            records=job.torch.records if job.torch else (),
            algo=algo,
            tensor_digests=job.hashed,
            numbers=True,
            statistics=job.statistics,
            progress=progress.advance,
        )
        if job.torch and job.torch.scattered:
            numbers, statistics = look_at_strided(job.torch, progress, statistics=job.statistics)
            reading = replace(
                reading, numbers={**reading.numbers, **numbers}, statistics={**reading.statistics, **statistics}
            )
        findings += [*_digest(job, reading), *not_finite(job, reading)]
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        return Read((finding("unreadable", message, remedy=READ_AGAIN, path=job.path),))
    matrices, zero = zero_matrices(job, reading) if job.is_model else (0, [])
    if zero:
        names = ", ".join(brief(name) for name in zero[:_MAX_NAMED])
        message = f"{len(zero)} of {matrices} weights are all zeros: {names}"
        remedy = "right for a layer that has not been trained yet; else save it again"
        findings.append(finding("all_zero", message, remedy=remedy, path=job.path, tensor=zero[0]))
    if job.is_model:
        findings += check_constant(job.path, uniform_weights(job, reading))
    findings += check_outliers(job, reading)
    return Read(
        tuple(findings),
        matrices,
        len(zero),
        largest=largest_of_weights(job, reading),
        only=only_of_weights(job, reading),
        statistics=statistics_of(job, reading),
        digests={name: reading.tensor_digests[name] for name in job.hashed},
        vouched=job.entry is not None and reading.digest == job.entry.digest,
    )


def all_zero(folder: Path, reads: list[Read]) -> Iterator[CkptFinding]:
    """Say whether nothing but zeros was found in a model: the trace of a writer of empty buffers."""
    matrices = sum(read.matrices for read in reads)
    if matrices and matrices == sum(read.zero_matrices for read in reads):
        message = f"all {matrices} weights are zero: nothing was copied into what was saved"
        yield finding("all_zero_model", message, remedy="save or merge the model again", path=folder)


def _digest(job: Job, reading: Reading) -> Iterator[CkptFinding]:
    if job.entry is None or reading.digest == job.entry.digest:
        if job.torch:
            yield from check_records(job.path, job.torch, reading.crc32s)
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
    if job.torch:
        damaged = [
            name for record in wrong_records(job.torch, reading.crc32s) for name in damaged_tensors(job.torch, record)
        ]
        message, tensor = message + named(damaged), damaged[0] if damaged else ""
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
