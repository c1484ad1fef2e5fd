"""The files of one checkpoint, or of a folder that may be one, as a report: what they hold, and what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.model import is_beside
from orz_ckpt.checks.portable import check_names
from orz_ckpt.checks.torch_files import is_torch_file
from orz_ckpt.examine.emptiness import nothing_foreign
from orz_ckpt.examine.files import How, examine
from orz_ckpt.findings import CkptFinding, Report, finding
from orz_ckpt.formats.safetensors import SUFFIX
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.quoting import shell_path
from orz_ckpt.report.words import count
from orz_ckpt.sources import open_source
from orz_cli.errors import OrzError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orz_ckpt.examine.weights import Weights
    from orz_ckpt.manifest import FileEntry
    from orz_ckpt.subject import Subject

_CHANGED: Final = frozenset({"record_crc_differs", "digest_differs"})
"""Findings that a file has other bytes than were written."""


def report_of(
    subject: Subject,
    how: How,
    files: Mapping[Path, int],
    weights: Sequence[Weights],
    entries: Mapping[Path, FileEntry],
) -> Report:
    """Look at files, and say what that came to."""
    looked = examine(subject.path, files, weights, how, entries)
    return Report(
        path=str(subject.path),
        kind=subject.kind,
        level=how.level,
        findings=looked.findings,
        checked=tuple(map(str, files)),
        bytes=sum(files.values()),
        tensors=looked.tensors,
        statistics=looked.statistics,
    )


def without_effects(held: Sequence[CkptFinding], looked: Sequence[CkptFinding]) -> list[CkptFinding]:
    """Return what readers found, but for copies that differ because bytes of a file changed, which is its own finding.

    Args:
        held: of readers, which look at some numbers.
        looked: of reading all bytes.
    """
    changed = any(entry.code in _CHANGED for entry in looked)
    return [entry for entry in held if not (changed and entry.code == "master_differs")]


def judge_model(subject: Subject, held: Weights, files: Mapping[Path, int], how: How) -> Report:
    """Verify the files right in a folder, or one file."""
    path = subject.path
    report = report_of(subject, how, files, [held] if held.recognised else [], {})
    if how.require_manifest:
        message = "there is no manifest, and --require-manifest was given"
        foreign = f"move {path / MANIFEST_NAME} away, which another program wrote, then "
        remedy = f"{foreign if (path / MANIFEST_NAME).exists() else ''}orz ckpt manifest {shell_path(path)}"
        note = finding("manifest_required", message, remedy=remedy, path=path)
    else:
        note = finding("no_manifest", "there is no manifest: whether bytes changed cannot be told", path=path)
    found = [*without_effects(held.findings, report.findings), *report.findings]
    below = [file for file in files if file != path and file.is_relative_to(path)]
    found += check_names(path, [file.relative_to(path).as_posix() for file in below])
    findings = (*found, *nothing_foreign(path, report, found), note)
    return replace(report, findings=findings, subject=_about(held))


def is_weights(file: Path) -> bool:
    """Return whether a file in a folder may hold weights, by its name: not what a trainer saves beside them."""
    return file.suffix == SUFFIX or (is_torch_file(file) and not is_beside(file.name))


def nothing_known(looked: Report) -> Report:
    """Say that there are no weights, and what there is instead."""
    message, remedy = "nothing known here", "give a run, a step folder, or a folder or file of weights"
    try:
        open_source(Path(looked.path))
    except OrzError as error:
        message, remedy = f"it {error.message.removeprefix(f'{looked.path} ')}", error.remedy
    unknown = finding("nothing_recognised", message, remedy=remedy, path=looked.path)
    return replace(looked, findings=(*looked.findings, unknown))


def without_weights(report: Report) -> Report:
    """Return `report` without that there are no weights, where they are not looked for: in `optimizer_0/`, say."""
    if not is_beside(Path(report.path).name):
        return report
    return replace(report, findings=tuple(entry for entry in report.findings if entry.code != "no_weights"))


def _about(held: Weights) -> str:
    source = held.source
    if source is None:
        return ""
    parts = [
        source.format,
        f"step {source.step}" if source.step is not None else "",
        count(source.world_size, "rank") if source.world_size else "",
        f"by {source.writer}" if source.writer else "",
    ]
    return ", ".join(filter(None, parts))
