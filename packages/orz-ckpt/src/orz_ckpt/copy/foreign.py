"""Is a folder that no manifest covers a checkpoint at all? What is broken before it is copied is broken after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.checks.model import is_beside
from orz_ckpt.copy.tree import LocalTree
from orz_ckpt.errors import SeveralError
from orz_ckpt.examine.below import look_below, perhaps_saving
from orz_ckpt.examine.files import How, examine
from orz_ckpt.examine.weights import weights_in
from orz_ckpt.findings import CkptFinding, Level, finding, milder
from orz_ckpt.inventory import WEIGHTS_SUFFIXES
from orz_ckpt.sources import holds_weights, open_source
from orz_ckpt.watch import Silent
from orz_cli.errors import OrzError

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.copy.plan import Unit
    from orz_ckpt.copy.tree import Tree


def check_foreign(tree: Tree, unit: Unit) -> list[CkptFinding]:
    """Say what `verify --level quick` says of a folder without manifest; of one behind a URL, if it holds weights.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(tree, LocalTree):
        return _check(tree.folder)
    if any(name.endswith(WEIGHTS_SUFFIXES) for name in unit.files):
        return []
    message = f"it holds {len(unit.files):,} files, and none of weights"
    return [finding("nothing_recognised", message, remedy="give the folder of a checkpoint or a run", path=tree.shown)]


def _check(folder: Path) -> list[CkptFinding]:
    held = weights_in(folder)
    below = look_below(folder, held.files, whole=held.has_weights)
    models = [model for model in below.models if not is_beside(model.name)]
    findings = [entry for step in below.steps for entry in _check_step(step)]
    findings += [entry for model in models for entry in _check(model)]
    if held.has_weights or (held.recognised and below.nothing):
        files = {file: file.stat().st_size for file in held.files if file.exists()}
        looked = examine(folder, files, [held], How(level=Level.QUICK, progress=Silent()), {})
        return [*held.findings, *looked.findings, *findings]
    if not below.nothing:
        return findings
    try:
        open_source(folder)
    except SeveralError:
        return []
    except OrzError as error:
        message = f"it {error.message.removeprefix(f'{folder} ')}"
        return [finding("nothing_recognised", message, remedy=error.remedy, path=folder)]
    return []


def _check_step(step: Path) -> list[CkptFinding]:
    """Look at a step of a run; to a newest one without weights a save may go on, and what is there is copied."""
    found = _check(step)
    return found if holds_weights(step) else [milder(perhaps_saving(entry)) for entry in found]
