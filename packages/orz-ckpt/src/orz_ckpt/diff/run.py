"""Compare two checkpoints of any formats, in constant memory."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING, Final

from orz_ckpt.diff.blocks import Comparer, common_type
from orz_ckpt.diff.summary import Diff
from orz_ckpt.disk.holes import is_hollow
from orz_ckpt.errors import HostileError, NotComparableError
from orz_ckpt.findings import conclude
from orz_ckpt.quoting import brief, shell_path
from orz_ckpt.tensors.coverage import check_coverage
from orz_ckpt.tensors.gather import Files
from orz_ckpt.watch import Silent
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_ckpt.diff.summary import TensorDiff
    from orz_ckpt.tensors.source import Source, SourceTensor
    from orz_ckpt.watch import Progress

_MAX_THREADS: Final = 8
_MAX_NAMED: Final = 3


def _comparable(a: SourceTensor, b: SourceTensor) -> bool:
    return a.shape == b.shape and bool(common_type(a.dtype, b.dtype))


def diff(a: Source, b: Source, *, progress: Progress | None = None) -> Diff:
    """Compare `b` with `a`.

    Args:
        a: the earlier one: norms are relative to it.
        b: the later one.
        progress: told of the bytes of `a` that were compared.

    Raises:
        NotComparableError: one of them is not whole, nearly all of a file was never written, or they have no tensor of
            one name and shape in common.
        OSError: a file cannot be read.
    """
    for source in (a, b):
        _refuse_broken(source)
    names = list(dict.fromkeys([*a.tensors, *b.tensors]))
    pairs = {name: (_find(a, name), _find(b, name)) for name in names}
    both = [(one, other) for one, other in pairs.values() if one is not None and other is not None]
    if not both:
        raise NotComparableError(
            f"{a.path} and {b.path} have no tensor in common: {_first(a)} there, {_first(b)} here",
            remedy="compare two checkpoints of one model",
        )
    alike = [(one, other) for one, other in both if _comparable(one, other)]
    unlike = [
        f"{brief(one.name)}: {one.dtype} {list(one.shape)} -> {other.dtype} {list(other.shape)}"
        for one, other in both
        if not _comparable(one, other)
    ]
    if not alike:
        differing = "; ".join(unlike[:_MAX_NAMED])
        raise NotComparableError(
            f"{a.path} and {b.path} have no tensor of one name and shape in common: {differing}",
            remedy="compare two checkpoints of one model",
        )
    return Diff(
        a=a,
        b=b,
        only_a=tuple(name for name, (_, other) in pairs.items() if other is None),
        only_b=tuple(name for name, (one, _) in pairs.items() if one is None),
        unlike=tuple(unlike),
        tensors=tuple(_compare_all(alike, progress or Silent())),
    )


def _compare_all(work: Sequence[tuple[SourceTensor, SourceTensor]], progress: Progress) -> list[TensorDiff]:
    _refuse_hollow(work)
    progress.add_total(sum(a.nbytes for a, _ in work))
    stop, local = threading.Event(), threading.local()

    def comparer(files: Files) -> Comparer:
        if not hasattr(local, "comparer"):
            local.comparer = Comparer(files, progress, stop)
        mine: Comparer = local.comparer
        return mine

    def compare(files: Files, index: int) -> TensorDiff:
        return comparer(files).compare(*work[index])

    def measure(files: Files, found: TensorDiff, index: int) -> TensorDiff:
        return found if found.changed else replace(found, norm=comparer(files).norm(*work[index]))

    order = sorted(range(len(work)), key=lambda index: -work[index][0].nbytes)
    with Files() as files, ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        try:
            futures = {index: pool.submit(compare, files, index) for index in order}
            found = [futures[index].result() for index in range(len(work))]
            if any(tensor.changed for tensor in found):  # of groups the norm is that of all their tensors
                return list(pool.map(measure, repeat(files), found, range(len(work))))
            return found
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _refuse_broken(source: Source) -> None:
    findings = [*source.findings, *check_coverage(source)]
    if conclude(findings) is Status.OK:
        return
    errors = [entry for entry in findings if entry.severity is Severity.ERROR]
    named = "; ".join(f"{entry.code}: {entry.message}" for entry in errors[:_MAX_NAMED])
    kind = HostileError if conclude(findings) is Status.REFUSED else NotComparableError
    raise kind(f"{source.path} is not whole: {named}", remedy=f"orz ckpt verify {shell_path(source.path)}")


def _refuse_hollow(work: Sequence[tuple[SourceTensor, SourceTensor]]) -> None:
    for path in {piece.block.path for pair in work for tensor in pair for piece in tensor.pieces}:
        if is_hollow(path):
            raise NotComparableError(
                f"{path}: nearly all of its {path.stat().st_size:,} bytes were never written and read as zeros",
                remedy=f"orz ckpt verify {shell_path(path)}",
            )


def _find(source: Source, name: str) -> SourceTensor | None:
    return source.tensors.get(source.aliases.get(name, name))


def _first(source: Source) -> str:
    return brief(next(iter(source.tensors), "nothing"))
