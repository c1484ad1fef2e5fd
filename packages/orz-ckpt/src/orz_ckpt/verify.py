"""Verify a run, a checkpoint, a part of one, a foreign folder of any format, or a file.

`examine` judges what is at each path.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orz_ckpt.checks.place import check_place
from orz_ckpt.checks.room import check_room
from orz_ckpt.errors import MissingPathError
from orz_ckpt.examine.against import check_against
from orz_ckpt.examine.files import How
from orz_ckpt.examine.path import judge, together
from orz_ckpt.findings import CkptFinding, Level, Report, finding
from orz_ckpt.inventory import step_of
from orz_ckpt.subject import Kind, identify
from orz_ckpt.watch import Progress, Silent

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Progress", "Silent", "verify", "verify_all"]


def verify(
    path: Path | str,
    *,
    level: Level = Level.FULL,
    against: Path | None = None,
    require_manifest: bool = False,
    tag: str = "",
    inert: frozenset[str] = frozenset(),
    sample: float = 0.01,
    below: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Verify `path` and report everything found.

    Args:
        path: a run, a step folder, a folder or file in one, a folder of any format, a file of weights.
        level: how much is read; each level has what the ones before have, but that all bytes stand for some.
        against: the model that the training began with; to have changed nothing of it is an error.
        require_manifest: count a foreign folder without manifest as failed.
        tag: of a DeepSpeed folder: which of its checkpoints; the one that `latest` names where empty.
        inert: names that a pickle may call beside the known ones; nothing is ever called.
        sample: share of the bytes that `Level.SAMPLE` reads, more than 0 and at most 1.
        below: verify the checkpoints below a folder that holds weights, too; below others they always are.
        progress: told of each piece of a file that was read.

    Raises:
        MissingPathError: there is nothing at `path` or `against`, or no such tag.
        UsageError: several models are at `against`.
    """
    path, begin = Path(path), time.perf_counter()
    how = How(
        level=level,
        progress=progress or Silent(),
        require_manifest=require_manifest,
        inert=inert,
        tag=tag,
        sample=sample,
        below=below,
    )
    report = judge(path, how)
    findings = [*report.findings, *check_place(path), *_room(report)]
    if against is not None:
        of_run = report.kind is Kind.RUN and report.newest_good
        findings += check_against(Path(report.newest_good) if of_run else path, against, how)
    return replace(report, findings=tuple(findings), seconds=time.perf_counter() - begin)


def _room(report: Report) -> list[CkptFinding]:
    """Say whether a run has room for one more step; of a step, whether one like it fits beside it."""
    steps = [report.path] if report.kind is Kind.CHECKPOINT and step_of(Path(report.path)) is not None else []
    if report.kind is Kind.RUN and report.parts:
        steps = [report.newest_good or report.parts[-1].path]
    return [entry for step in steps for entry in check_room(Path(step))]


def verify_all(
    paths: Sequence[Path],
    *,
    level: Level = Level.FULL,
    against: Path | None = None,
    require_manifest: bool = False,
    tag: str = "",
    inert: frozenset[str] = frozenset(),
    sample: float = 0.01,
    progress: Progress | None = None,
) -> Report:
    """Verify several paths into one report, as `verify` does; of one path it is that path's own.

    Of several, one that is not there is a finding, and the others are judged all the same.

    Raises:
        MissingPathError: there is nothing at the only path, or no such tag in it, or nothing at `against`.
        UsageError: several models are at `against`, or a tag is given of what has none.
    """
    one = partial(
        verify,
        level=level,
        against=against,
        require_manifest=require_manifest,
        tag=tag,
        inert=inert,
        sample=sample,
        progress=progress,
    )
    if len(paths) == 1:
        return one(paths[0])
    if against is not None:
        identify(against)  # or each path would be said to lack it
    reports = []
    for path in paths:
        try:
            reports.append(one(path))
        except MissingPathError as error:
            found = finding("not_judged", error.message, remedy=error.remedy, path=path)
            reports.append(Report(path=str(path), kind="none", level=level, findings=(found,)))
    all_of_them = together(", ".join(report.path for report in reports), "paths", level, reports)
    return replace(all_of_them, seconds=sum(report.seconds for report in reports))
