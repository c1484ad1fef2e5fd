"""What is at a path, judged: a run, a checkpoint, a part of one, a foreign folder, a file.

`weights` says what a folder holds, `judged` what its files come to, `below` which checkpoints are below it; here all
that becomes one report.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orz_ckpt.checks.files import READ_AGAIN, compare_files, entries_below, list_files
from orz_ckpt.checks.latest import check_latest
from orz_ckpt.checks.manifest import check_manifest
from orz_ckpt.checks.torch_files import is_torch_file
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk_errors import blamed
from orz_ckpt.errors import MissingPathError
from orz_ckpt.examine.below import (
    Below,
    dead_steps,
    look_below,
    lost_roles,
    not_looked_into,
    perhaps_saving,
    without_policy,
    without_weights_beside,
)
from orz_ckpt.examine.covered import covered
from orz_ckpt.examine.drift import check_drift
from orz_ckpt.examine.emptiness import nothing_covered
from orz_ckpt.examine.judged import (
    is_weights,
    judge_model,
    nothing_known,
    report_of,
    without_effects,
    without_weights,
)
from orz_ckpt.examine.merged import merge_again
from orz_ckpt.examine.weights import weights_in, weights_of_file
from orz_ckpt.findings import CkptFinding, Level, Report, finding, softened
from orz_ckpt.formats.safetensors import SUFFIX
from orz_ckpt.inventory import CHECKPOINTS_DIR
from orz_ckpt.quoting import locate_command
from orz_ckpt.strict_json import is_size
from orz_ckpt.subject import Kind, Subject, identify, is_in_flight, step_folders
from orz_ckpt.unfinished import COLLECTING, go_on_collecting

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from orz_ckpt.examine.files import How
    from orz_ckpt.manifest import Manifest


def judge(path: Path, how: How) -> Report:
    """Return a report of what is at a path; what cannot be read is a finding.

    Raises:
        MissingPathError: there is nothing at it, or no such tag.
        UsageError: a tag is given of what has none.
    """
    try:
        subject = identify(path)
        if subject.kind is Kind.RUN:
            return _verify_run(subject.path, how)
        if subject.kind in {Kind.CHECKPOINT, Kind.PART}:
            return _verify_checkpoint(subject, how)
        return _verify_foreign(subject, how)
    except MissingPathError:
        raise
    except OSError as error:
        return Report(path=str(path), kind=Kind.FOLDER, level=how.level, findings=(_unreadable(error, path),))


def _unreadable(error: OSError, path: Path) -> CkptFinding:
    message = f"{blamed(error) or path} cannot be read: {error.strerror or error}"
    return finding("unreadable", message, remedy=READ_AGAIN, path=path)


def _verify_run(path: Path, how: How) -> Report:
    folder = path / CHECKPOINTS_DIR if (path / CHECKPOINTS_DIR).is_dir() else path
    findings = [
        finding("in_flight", "a save that is going on, or that a crash cut off", path=entry)
        for entry in sorted(folder.iterdir())
        if is_in_flight(entry)
    ]
    command = go_on_collecting(folder.parent if folder.name == CHECKPOINTS_DIR else folder)
    if command:
        findings.append(finding("in_flight", COLLECTING, remedy=f"go on with it: {command}", path=path))
    steps = step_folders(folder)
    if not (steps or findings or look_below(path, (), whole=False).nothing):
        return _verify_foreign(Subject(path=path, kind=Kind.FOLDER, root=path), how)  # accelerate's `checkpoints/`
    findings += dead_steps(folder, steps)
    return _steps(path, folder, [judge(step, how) for step in steps], findings, how)


def _steps(
    path: Path,
    folder: Path,
    parts: Sequence[Report],
    findings: list[CkptFinding],
    how: How,
    aside: Collection[Path] = (),
) -> Report:
    """Conclude from all checkpoints of a run; only the newest decides, the older ones' errors are warnings.

    What is `aside` is named as no good one, even if all in it is sound.
    """
    good = [part.path for part in parts if not part.status().exit_code and Path(part.path) not in aside]
    if not parts:
        run = path.parent if path.name == CHECKPOINTS_DIR else path
        remedy = f"{locate_command(run)}    # it may have saved on another node"
        findings.append(finding("no_checkpoint", "this run has saved nothing here yet", remedy=remedy, path=folder))
    else:
        findings += [entry for part in parts[:-1] for entry in softened(part).findings]
        findings += parts[-1].findings
        if how.level is Level.DEEP:
            findings += check_drift([Path(name) for name in good], how)
        if parts[-1].status().exit_code:
            message = f"the newest good checkpoint is {good[-1]}" if good else "no checkpoint of this run is good"
            findings.append(finding("newest_good", message, path=good[-1] if good else folder))
    whole = together(str(path), Kind.RUN, how.level, parts)
    return replace(whole, findings=tuple(findings), newest_good=good[-1] if good else "")


def _verify_checkpoint(subject: Subject, how: How) -> Report:
    """Verify a step folder, or a part of one, against its manifest."""
    root, prefix = subject.root, subject.prefix
    manifest, findings = check_manifest(root)
    listing = list_files(root, prefix)
    findings += listing.findings
    if manifest is not None:
        findings += compare_files(root, prefix, manifest, listing)
        if manifest.roles and not any(name.startswith("state/") for name in manifest.files):
            findings.append(finding("no_state", "there is no state/: it can be used, not trained on", path=root))
    else:
        # Nothing to compare the bytes with: headers and shapes say whether anything is worth saving.
        how = replace(how, level=Level.QUICK)
    held = covered(subject, manifest, [root / name for name in listing.sizes], how)
    unsound = {entry.path for entry in findings}
    files = {root / name: size for name, size in listing.sizes.items() if str(root / name) not in unsound}
    entries = entries_below(manifest, prefix) if manifest else {}
    named = {root / name: entry for name, entry in entries.items()}
    report = report_of(subject, how, files, held.weights, named)
    looked = [entry for entry in report.findings if entry.path not in unsound or entry.path == str(root)]
    found = [*without_effects(held.findings, report.findings), *looked]
    findings += held.judged(found, how, compared=findings)
    findings += nothing_covered(subject, manifest.roles.values() if manifest else (), report, findings)
    return replace(report, findings=tuple(merge_again(findings, manifest)), subject=_said(manifest))


def _said(manifest: Manifest | None) -> str:
    if manifest is None:
        return ""
    source = manifest.meta.get("source")
    stepless = isinstance(source, dict) and not is_size(source.get("step"))
    return f"{'' if stepless else f'step {manifest.step} '}by {manifest.writer}, {manifest.created}"


def _verify_foreign(subject: Subject, how: How) -> Report:
    """Verify a folder or a file that no manifest of ours covers, and the checkpoints below the folder."""
    path, unseen = subject.path, list[CkptFinding]()
    if subject.kind is Kind.FOLDER:
        held = weights_in(path, tag=how.tag, inert=how.inert)
        files = {file: file.stat().st_size for file in held.files if file.exists()}
        whole = held.has_weights or any(is_weights(file) for file in files)
        try:
            below = look_below(path, held.files, whole=held.has_weights) if how.below or not whole else Below()
            steps = [step for step in below.steps if not (step.is_symlink() and resolved(step) in how.around)]
            below = replace(below, steps=tuple(steps))
        except OSError as error:
            if not whole:
                raise
            below, unseen = Below(), [_unreadable(error, path)]
        unseen += not_looked_into(below.unread)
    else:
        held, files, below = weights_of_file(path), {path: path.stat().st_size}, Below()
        whole = path.suffix == SUFFIX or is_torch_file(path)
    dead = {entry.path for entry in dead_steps(path, below.steps)} if below.steps else set()  # told with the steps
    if whole or (held.recognised and below.nothing):
        own = _adding(_without(judge_model(subject, held, files, how), dead), unseen)
        return own if below.nothing else _with_below(own, [own], below, how)
    beside = {file: size for file, size in files.items() if is_torch_file(file)}
    looked = report_of(subject, how, beside, [], {})
    listed = replace(looked, findings=tuple(held.findings))
    if below.steps:
        listed = softened(_without(listed, dead))  # a link that leads nowhere, say: of no checkpoint
    rest = _adding(listed, (*looked.findings, *unseen))
    return nothing_known(rest) if below.nothing else _with_below(rest, [], below, how)


def _with_below(own: Report, first: Sequence[Report], below: Below, how: How) -> Report:
    """Verify the checkpoints below a folder, too.

    The model in it and each below have to be good; of steps, the newest.

    Args:
        own: of the files right in the folder.
        first: `own` where they are a model.
        below: the checkpoints.
        how: what was asked for.
    """
    path = Path(own.path)
    lost, aside = lost_roles(below.steps), without_policy(below.steps)
    how = replace(how, around=how.around.union(map(resolved, below.steps)))
    parts = [_adding(judge(step, how), lost.get(step, ())) for step in below.steps]
    if parts:
        parts[-1] = replace(parts[-1], findings=tuple(map(perhaps_saving, parts[-1].findings)))
    noted = [*check_latest(path, below.steps), *dead_steps(path, below.steps)] if parts else []
    run = _steps(path, path, parts, noted, how, aside) if parts else None
    models = [without_weights(judge(model, how)) for model in below.models]
    own = _adding(own, without_weights_beside(below.bare))
    return replace(
        together(own.path, own.kind, how.level, [own, *([run] if run else []), *models]),
        kind=Kind.RUN if run and not first else own.kind,
        parts=(*first, *parts, *models),
        newest_good=run.newest_good if run else "",
    )


def _without(report: Report, paths: Collection[str]) -> Report:
    return replace(report, findings=tuple(entry for entry in report.findings if entry.path not in paths))


def _adding(report: Report, findings: Sequence[CkptFinding]) -> Report:
    return replace(report, findings=(*report.findings, *findings))


def together(path: str, kind: str, level: Level, parts: Sequence[Report]) -> Report:
    """Return one report of several, with the findings of all."""
    return Report(
        path=path,
        kind=kind,
        level=level,
        findings=tuple(entry for part in parts for entry in part.findings),
        checked=tuple(name for part in parts for name in part.checked),
        bytes=sum(part.bytes for part in parts),
        statistics=tuple(entry for part in parts for entry in part.statistics),
        tensors=sum(part.tensors for part in parts),
        parts=tuple(parts),
    )
