"""Some of the bytes, chosen by chance, against whatever can vouch for them.

What can be compared is a whole unit at a time: a chunk or a file of a manifest, a small tensor of one, a record of a
torch archive. Of a file that nothing vouches for, random blocks of its numbers are taken. The numbers in whatever is
read are searched for NaN and infinity.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.checks.search import Search, Stretch, stretches_of, within
from orz_ckpt.checks.strided import look_at_strided
from orz_ckpt.disk.crc32 import crc32_of
from orz_ckpt.disk.plain import open_unbuffered
from orz_ckpt.disk.reading import PIECE_BYTES, new_hasher
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.torch_contents import extent_of
from orz_ckpt.manifest import CHUNK_BYTES
from orz_ckpt.memory import memory_for
from orz_ckpt.quoting import brief
from orz_ckpt.report.words import count, listed, size
from orz_ckpt.tensors.floats import FLOATS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.checks.content import Job
    from orz_ckpt.formats.torch_contents import TorchContents
    from orz_ckpt.tensors.source import Block
    from orz_ckpt.watch import Progress

    View = tuple[str, Block]

_BLOCK_BYTES: Final = 1024 * 1024
_COPY: Final = (
    "read every byte to learn more: orz ckpt verify --level full; copy the file again from where it was saved"
)
_OLDER: Final = "where and how many: orz ckpt verify --level full; else use an older checkpoint"
_MAX_NAMED: Final = 3
_PLACES: Final = 100
"""Of damage in many places: what the finding says the chance for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Bytes of a file that can be checked by themselves."""

    path: Path
    offset: int
    nbytes: int
    what: str
    """How to call it."""
    tensor: str = ""
    algo: str = ""
    """Of `digest`; empty where only numbers can be looked at."""
    digest: str = ""
    crc32: int | None = None
    stretches: tuple[Stretch, ...] = ()
    """The numbers in it, which are searched for NaN: a digest vouches for what was written, not that it is sound."""

    strided: TorchContents | None = None
    """Of which `scattered` are tensors with gaps between their numbers that lie wholly in it; None for none."""

    @property
    def vouched(self) -> bool:
        """Whether something says which bytes are right."""
        return bool(self.algo) or self.crc32 is not None


def check_sample(
    where: Path, jobs: Sequence[Job], share: float, progress: Progress, chance: random.Random | None = None
) -> Iterator[CkptFinding]:
    """Check units chosen by chance, as many as make up `share` of the bytes; at least one.

    Args:
        where: what is verified.
        jobs: its files.
        share: more than 0, at most 1.
        progress: told of the bytes that were read.
        chance: what chooses; the system's randomness by default, so that another run reads other bytes.
    """
    units: list[Unit] = []
    for job in jobs:
        if job.open is None:
            opened = job
        else:
            contents, parts, findings = job.open()
            yield from findings
            opened = replace(job, torch=contents, parts=parts)
        mine = units_of(opened)
        yield from _unsearched(opened, mine)
        units += mine
    chosen = _choose(units, share, chance or random.SystemRandom())
    progress.add_total(sum(unit.nbytes for unit in chosen))
    for unit in chosen:
        yield from _check(unit, progress)
    if units:
        yield _said(where, units, chosen)


def units_of(job: Job) -> list[Unit]:
    """Return the parts of a file that can be checked one by one, the smallest that its manifest or archive allow."""
    stretches = stretches_of(job)
    units = [
        replace(unit, stretches=within(stretches, unit.offset, unit.offset + unit.nbytes))
        for unit in _parts_of(job, stretches)
    ]
    return _with_strided(job.torch, units) if job.torch and job.torch.scattered else units


def _with_strided(contents: TorchContents, units: Sequence[Unit]) -> list[Unit]:
    """Return units, in file order, with the tensors that have gaps between their numbers, each in the one it is in."""
    units = sorted(units, key=lambda unit: unit.offset)
    inside: dict[int, dict[str, View]] = {}
    if any(unit.strided for unit in units):
        return units  # each has a unit of its own
    for key, (name, block) in contents.scattered.items():
        index = bisect_right(units, block.offset, key=lambda unit: unit.offset) - 1
        around = units[index] if index >= 0 else None
        end = block.offset + extent_of(block)
        if around is not None and block.dtype in FLOATS and end <= around.offset + around.nbytes:
            inside.setdefault(index, {})[key] = (name, block)
    return [
        replace(unit, strided=replace(contents, scattered=inside[index])) if index in inside else unit
        for index, unit in enumerate(units)
    ]


def _unsearched(job: Job, units: Sequence[Unit]) -> Iterator[CkptFinding]:
    """Say which tensors with gaps between their numbers lie in no unit alone, so that none is searched for them."""
    views = job.torch.scattered if job.torch else {}
    searched = {key for unit in units if unit.strided for key in unit.strided.scattered}
    others = [name for key, (name, block) in views.items() if block.dtype in FLOATS and key not in searched]
    if others:
        message = (
            f"{count(len(others), 'tensor')} with gaps between the numbers, in no part alone, not searched for NaN:"
            f" {listed(others, _MAX_NAMED)}"
        )
        yield finding("numbers_not_checked", message, path=job.path)


def _parts_of(job: Job, stretches: Sequence[Stretch]) -> list[Unit]:
    entry, path = job.entry, job.path
    if entry is not None and entry.chunks:
        return [
            Unit(
                path=path,
                offset=index * CHUNK_BYTES,
                nbytes=min(CHUNK_BYTES, entry.size - index * CHUNK_BYTES),
                what=f"bytes {index * CHUNK_BYTES:,}-{min((index + 1) * CHUNK_BYTES, entry.size):,}",
                algo=entry.algo,
                digest=digest,
            )
            for index, digest in enumerate(entry.chunks)
        ]
    if entry is not None and entry.tensors and entry.size > CHUNK_BYTES:
        return [
            Unit(
                path=path,
                offset=tensor.offset,
                nbytes=tensor.nbytes,
                what=brief(name),
                tensor=name,
                algo=entry.algo,
                digest=tensor.digest,
            )
            for name, tensor in entry.tensors.items()
        ]
    if entry is not None:
        return [Unit(path=path, offset=0, nbytes=entry.size, what="the file", algo=entry.algo, digest=entry.digest)]
    if job.torch is not None and any(record.crc32 for record in job.torch.records):
        return [
            Unit(path=path, offset=record.offset, nbytes=record.nbytes, what=brief(record.name), crc32=record.crc32)
            for record in job.torch.records
            if record.nbytes
        ]
    return [
        Unit(
            path=path,
            offset=begin,
            nbytes=min(_BLOCK_BYTES, stretch.end - begin),
            what=f"bytes {begin:,}-{min(begin + _BLOCK_BYTES, stretch.end):,}",
            tensor=stretch.tensor if job.header else "",
        )
        for stretch in stretches
        for begin in range(stretch.begin, stretch.end, _BLOCK_BYTES)
    ] + _slices_of(job)


def _slices_of(job: Job) -> list[Unit]:
    """Return a unit for each tensor with gaps between its numbers, from its first number to its last."""
    if job.torch is None:
        return []
    return [
        Unit(
            path=job.path,
            offset=block.offset,
            nbytes=extent_of(block),
            what=f"bytes {block.offset:,}-{block.offset + extent_of(block):,}",
            strided=replace(job.torch, scattered={key: (name, block)}),
        )
        for key, (name, block) in job.torch.scattered.items()
        if block.dtype in FLOATS
    ]


def _choose(units: Sequence[Unit], share: float, chance: random.Random) -> list[Unit]:
    wanted, chosen, nbytes = share * sum(unit.nbytes for unit in units), list[Unit](), 0
    for unit in chance.sample(units, len(units)):
        if chosen and nbytes >= wanted:
            break
        chosen.append(unit)
        nbytes += unit.nbytes
    return sorted(chosen, key=lambda unit: (unit.path, unit.offset))


def _check(unit: Unit, progress: Progress) -> Iterator[CkptFinding]:
    hasher, crc, search = new_hasher(unit.algo) if unit.algo else None, 0, Search(unit.stretches, unit.offset)
    strided: list[str] = []
    try:
        with memory_for(unit.path), open_unbuffered(unit.path) as stream:
            buffer = memoryview(bytearray(min(PIECE_BYTES, unit.nbytes)))
            stream.seek(unit.offset)
            left = unit.nbytes
            while left:
                data = buffer[: stream.readinto(buffer[: min(left, len(buffer))]) or 0]
                if not len(data):
                    raise OSError("it became shorter while it was read")  # noqa: TRY301  read like any other
                left -= len(data)
                if hasher:
                    hasher.update(data)
                elif unit.crc32 is not None:
                    crc = crc32_of(data, crc)
                search.update(data)
                progress.advance(len(data))
        if unit.strided:
            numbers, _ = look_at_strided(unit.strided, progress, statistics=False)
            strided = [unit.strided.scattered[key][0] for key, found in numbers.items() if found.nonfinite]
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        yield finding("unreadable", message, remedy=READ_AGAIN, path=unit.path)
        return
    if hasher and hasher.hexdigest() != unit.digest:
        message = f"{unit.what}: expected {unit.algo} {unit.digest[:16]}…, got {hasher.hexdigest()[:16]}…"
        yield finding("digest_differs", message, remedy=_COPY, path=unit.path, tensor=unit.tensor)
    elif unit.crc32 is not None and crc != unit.crc32:
        message = f"record {unit.what}: expected CRC-32 {unit.crc32:08x}, got {crc:08x}"
        yield finding("record_crc_differs", message, remedy=_COPY, path=unit.path)
    bad = [*search.bad, *strided]
    if bad:
        message = f"NaN or Inf in {unit.what}, of {listed(bad, _MAX_NAMED)}"
        yield finding("not_finite", message, remedy=_OLDER, path=unit.path, tensor=bad[0])


def _said(where: Path, units: Sequence[Unit], chosen: Sequence[Unit]) -> CkptFinding:
    """Say what was read, and the chance to find damage in one place and in many."""
    total, read = sum(unit.nbytes for unit in units), sum(unit.nbytes for unit in chosen)
    share = read / total if total else 1.0
    many = 1 - (1 - share) ** _PLACES
    compared = sum(unit.vouched for unit in chosen)
    how = "compared" if compared == len(chosen) else f"searched for NaN, {compared} of them compared with a digest"
    message = (
        f"{len(chosen):,} of {count(len(units), 'part')}, {size(read)} of {size(total)}, were {how}: damage in one"
        f" place is found with probability {share:.2%}, in {_PLACES} places with {many:.2%}"
    )
    return finding("sampled", message, path=where)
