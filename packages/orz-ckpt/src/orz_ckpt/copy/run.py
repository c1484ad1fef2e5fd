"""Copy checkpoints from one place to another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orz_ckpt.copy.checked import AbsentError, DiffersError
from orz_ckpt.copy.foreign import check_foreign
from orz_ckpt.copy.local import LocalPlace
from orz_ckpt.copy.plan import Unit, plan_copy
from orz_ckpt.copy.tree import LocalTree, Tree, open_tree
from orz_ckpt.copy.url import UrlPlace
from orz_ckpt.disk.links import resolved
from orz_ckpt.errors import CheckpointExistsError
from orz_ckpt.findings import CkptFinding, conclude, finding
from orz_ckpt.remote import Remote
from orz_ckpt.report.words import count, size
from orz_ckpt.urls import local_path
from orz_ckpt.watch import Progress, Silent
from orz_cli.errors import UsageError
from orz_cli.findings import Severity, Status, to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiedUnit:
    """One checkpoint, or one folder."""

    rel: str
    step: int | None
    files: int
    bytes: int
    there: bool
    """Whether it was at the destination already."""
    copied: bool
    """Whether it is there now."""
    covered: bool
    """Whether a manifest covers it, so that every byte was compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """What a copy came to."""

    source: str
    """Without secrets."""
    dest: str
    units: Sequence[CopiedUnit]
    findings: Sequence[CkptFinding]
    seconds: float

    @property
    def bytes(self) -> int:
        """That were written."""
        return sum(unit.bytes for unit in self.units if unit.copied and not unit.there)

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        return to_json(
            self.status(fail_on),
            self.findings,
            path=self.source,
            to=self.dest,
            checkpoints=[
                {
                    "rel": unit.rel,
                    "step": unit.step,
                    "files": unit.files,
                    "bytes": unit.bytes,
                    "there": unit.there,
                    "copied": unit.copied,
                    "covered": unit.covered,
                }
                for unit in self.units
            ],
            copied_bytes=self.bytes,
            seconds=round(self.seconds, 3),
        )


def copy(source: str, dest: str, *, progress: Progress | None = None) -> Copied:
    """Copy a checkpoint, all committed checkpoints of a run, or another folder.

    Every byte is hashed once, on its way, and compared with the manifest where there is one. A checkpoint appears at
    once where folders can be renamed; elsewhere its manifest comes last. What is there already is never replaced.

    Args:
        source: a path, or a URL that fsspec reads.
        dest: a path, or a URL that fsspec writes: what becomes the copy.
        progress: told of bytes.

    Raises:
        MissingPathError: nothing is at `source`.
        UsageError: `source` is a file; `dest` lies inside of it or of a checkpoint, or is one and `source` a run, or
            is a mount point or a link to nothing; or a URL cannot be used here.
        StorageFullError: the disk is full; the next copy goes on.
        CkptError: a store refuses, or another process copies there.
        OSError: a disk refuses.
    """
    begin = time.perf_counter()
    tree = open_tree(source)
    place = _place(dest, tree)
    place.refuse_link_to_nothing()
    units, findings = plan_copy(tree)
    _refuse_inside(place, units)
    place.refuse_mount_points(units)
    if [unit.manifest for unit in units] == [None]:
        findings += check_foreign(tree, units[0])
        if conclude(findings) is not Status.OK:
            units = []
    if units and units[0].rel:
        findings = [_milder(entry) for entry in findings]  # of a run, the others decide
    done: list[CopiedUnit] = []
    shown = progress or Silent()
    with place.opened(tree.spelled):
        coming = []
        for unit in units:
            try:
                there = place.has(tree, unit)
            except CheckpointExistsError as error:
                findings.append(finding("collect_conflict", error.message, remedy=error.remedy, path=_at(place, unit)))
                done.append(_unit(unit, there=False, copied=False))
                continue
            if there:
                done.append(_unit(unit, there=True, copied=True))
            else:
                coming.append(unit)
        needed = sum(max(0, unit.bytes - place.staged(unit)) for unit in coming)
        free = place.free()
        if free is not None and free < needed:
            message = f"{size(needed)} are to come, {size(free)} are free"
            remedy = "free some space, or copy to another disk"
            findings.append(finding("low_space", message, remedy=remedy, path=place.shown))
            done += [_unit(unit, there=False, copied=False) for unit in coming]
        else:
            shown.add_total(sum(unit.bytes for unit in coming))
            done += [_bring(tree, place, unit, findings, shown) for unit in coming]
        if all(unit.copied for unit in done):
            place.clear()
    return Copied(
        source=tree.shown,
        dest=place.shown,
        units=sorted(done, key=lambda unit: unit.rel),
        findings=findings,
        seconds=time.perf_counter() - begin,
    )


def _place(dest: str, tree: Tree) -> LocalPlace | UrlPlace:
    path = local_path(dest)
    if path is None:
        return UrlPlace(Remote(dest, write=True))
    if isinstance(tree, LocalTree):
        inner, outer = resolved(path), resolved(tree.folder)
        if inner == outer or inner.is_relative_to(outer):
            raise UsageError(f"{path} lies inside {tree.folder}, which is to be copied", remedy="choose another DEST")
    return LocalPlace(path)


def _refuse_inside(place: LocalPlace | UrlPlace, units: Sequence[Unit]) -> None:
    """Refuse a destination that is a checkpoint, of a run's steps, or that lies in one."""
    around = place.checkpoint_around(units[0].rel if units else "")
    if around is not None:
        message = f"copied to {place.shown}, it would lie inside the checkpoint {around}, which would no longer verify"
        raise UsageError(f"{message}; nothing was written", remedy="choose a DEST outside of it")


def _bring(
    tree: Tree, place: LocalPlace | UrlPlace, unit: Unit, findings: list[CkptFinding], progress: Progress
) -> CopiedUnit:
    try:
        place.bring(tree, unit, progress.advance)
    except DiffersError as error:
        findings.append(finding("collect_differs", error.message, remedy=error.remedy, path=_at(tree, unit)))
        return _unit(unit, there=False, copied=False)
    except AbsentError as error:  # of a place that lists nothing, only asking for a file tells
        findings.append(finding("file_missing", error.message, remedy=error.remedy, path=error.path))
        return _unit(unit, there=False, copied=False)
    message = f"{count(len(unit.files), 'file')}, {size(unit.bytes)}"
    findings.append(finding("collected", message, path=_at(place, unit)))
    return _unit(unit, there=False, copied=True)


def _unit(unit: Unit, *, there: bool, copied: bool) -> CopiedUnit:
    return CopiedUnit(
        rel=unit.rel,
        step=None if unit.manifest is None else unit.manifest.step,
        files=len(unit.files),
        bytes=unit.bytes,
        there=there,
        copied=copied,
        covered=unit.manifest is not None,
    )


def _at(place: Tree | LocalPlace | UrlPlace, unit: Unit) -> str:
    return f"{place.shown}/{unit.rel}" if unit.rel else place.shown


def _milder(entry: CkptFinding) -> CkptFinding:
    """Of a run's steps, one that was never committed is a warning where others are copied."""
    return replace(entry, severity=Severity.WARN) if entry.code == "uncommitted" else entry
