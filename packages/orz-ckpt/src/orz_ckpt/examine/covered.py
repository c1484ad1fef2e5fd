"""What lies below a manifest: the models that it names, or those that are found as in a folder without one.

`orz ckpt manifest` describes any folder, also one with several models side by side and a run of them. It says what
the bytes were, and nothing of whether they are good: what would be found without it is found under it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.latest import check_latest
from orz_ckpt.checks.model import is_beside
from orz_ckpt.examine.below import Below, look_below, lost_roles, without_policy, without_weights_beside
from orz_ckpt.examine.drift import check_drift
from orz_ckpt.examine.weights import Weights, weights_in, weights_of_file
from orz_ckpt.findings import CkptFinding, Level, conclude, finding, milder
from orz_ckpt.subject import Kind
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from orz_ckpt.examine.files import How
    from orz_ckpt.manifest import Manifest
    from orz_ckpt.subject import Subject

_ROLES: Final = ("policy", "critic")
"""Of a step of ours without a manifest."""
_AGAINST_IT: Final = frozenset({"digest_differs", "record_crc_differs", "unreadable"})
"""Findings that bytes are not those of the manifest, or may not be: errors in whatever step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Covered:
    """The models below a manifest, or below a part of what it covers."""

    weights: tuple[Weights, ...] = ()
    findings: tuple[CkptFinding, ...] = ()
    """Of readers, and of what is not beside what."""
    runs: tuple[tuple[Path, ...], ...] = ()
    """Steps of one run each, by number: the last one decides."""
    aside: frozenset[Path] = frozenset()
    """Steps that are no good ones, even if all in them is sound."""
    beside: frozenset[Path] = frozenset()
    """Folders of what a trainer saves beside weights, such as `optimizer_0/`: that they hold none says nothing."""

    def judged(
        self, findings: Sequence[CkptFinding], how: How, *, compared: Sequence[CkptFinding] = ()
    ) -> list[CkptFinding]:
        """Return what was found, of older steps errors as warnings and no notes, and what is to be said of each run.

        Args:
            findings: of readers, and of reading files.
            how: what was asked for.
            compared: of comparing names and sizes with the manifest: a step with an error among them is no good one.
        """
        older = {step for run in self.runs for step in run[:-1]}
        found: list[CkptFinding] = []
        for entry in findings:
            if entry.code == "no_weights" and Path(entry.path) in self.beside:
                continue
            if entry.code in _AGAINST_IT or not _step_above(entry, older):
                found.append(entry)
            elif entry.severity is not Severity.INFO:
                found.append(milder(entry))
        for run in self.runs:
            found += self._of_run(run, [*findings, *compared], how)
        return found

    def _of_run(self, run: Sequence[Path], findings: Sequence[CkptFinding], how: How) -> Iterator[CkptFinding]:
        """Compare the steps of a run with one another, and name the newest good one where the newest is not."""
        found: dict[Path | None, list[CkptFinding]] = {}
        steps = set(run)
        for entry in findings:
            found.setdefault(_step_above(entry, steps), []).append(entry)
        sound = [step for step in run if not conclude(found.get(step, [])).exit_code]
        good = [step for step in sound if step not in self.aside]
        if how.level is Level.DEEP:
            yield from check_drift(good, how)
        if run[-1] not in sound:
            message = f"the newest good checkpoint is {good[-1]}" if good else "no checkpoint of this run is good"
            yield finding("newest_good", message, path=good[-1] if good else run[-1].parent)


def covered(subject: Subject, manifest: Manifest | None, files: Iterable[Path], how: How) -> Covered:
    """Find the models in a checkpoint of ours, or in what its manifest covers; no weight is read.

    Args:
        subject: the checkpoint, or a part of it.
        manifest: None where it has none.
        files: the plain files below it.
        how: what was asked for.

    Raises:
        MissingPathError: there is no such tag.
        OSError: a folder cannot be listed.
    """
    root = subject.root
    if subject.kind is Kind.PART and subject.path.is_file():
        return Covered(weights=() if subject.prefix.startswith("state/") else (weights_of_file(subject.path),))
    known: dict[Path, list[Path]] = {}  # by folder: a run has many, and each is looked up by itself
    for file in files:
        known.setdefault(file.parent, []).append(file)
    if manifest is not None and not manifest.roles:
        return _found(subject.path, known, how)
    roles = _ROLES if manifest is None else manifest.roles.values()
    weights = tuple(
        weights_in(root / role, known=known, tag=how.tag, inert=how.inert)
        for role in roles
        if (root / role).is_dir() and (root / role).is_relative_to(subject.path)
    )
    return Covered(weights=weights, findings=tuple(entry for held in weights for entry in held.findings))


def _found(path: Path, known: Mapping[Path, Sequence[Path]], how: How) -> Covered:
    """Find the model right in a folder, and those below it, as where there is no manifest."""
    held = weights_in(path, known=known, tag=how.tag, inert=how.inert)
    try:
        below = look_below(path, held.files, whole=held.has_weights) if how.below or not held.has_weights else Below()
    except OSError:
        if not held.has_weights:
            raise
        below = Below()  # who has listed the files has said so
    inner = [_found(folder, known, how) for folder in (*below.steps, *below.models)]
    lost = lost_roles(below.steps)
    findings = [*held.findings, *without_weights_beside(below.bare)]
    findings += check_latest(path, below.steps) if below.steps else ()
    findings += [entry for step in below.steps for entry in lost.get(step, ())]
    return Covered(
        weights=(*([held] if held.recognised else []), *(entry for each in inner for entry in each.weights)),
        findings=(*findings, *(entry for each in inner for entry in each.findings)),
        runs=(*([below.steps] if below.steps else []), *(run for each in inner for run in each.runs)),
        aside=frozenset(without_policy(below.steps)).union(*(each.aside for each in inner)),
        beside=frozenset(entry for entry in below.models if is_beside(entry.name)).union(
            *(each.beside for each in inner)
        ),
    )


def _step_above(entry: CkptFinding, steps: Collection[Path]) -> Path | None:
    """Return the step that a finding is of, or of what lies in it; None where it is of none of `steps`."""
    path = Path(entry.path)
    return next((folder for folder in (path, *path.parents) if folder in steps), None)
