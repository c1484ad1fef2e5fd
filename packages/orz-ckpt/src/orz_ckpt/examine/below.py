"""The checkpoints that lie below a folder: steps of a run, and models side by side, some of which may be lost."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.elsewhere import locate_remedy
from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.checks.model import is_beside
from orz_ckpt.disk.links import resolved
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.hf import CONFIG_NAME, read_config
from orz_ckpt.quoting import brief
from orz_ckpt.readers.deepspeed import tags
from orz_ckpt.sources import POLICIES, ROLES, detect, holds_weights, numbered_steps, roles_in
from orz_ckpt.steps import around_step, names_folder_of_steps, names_step
from orz_ckpt.subject import is_in_flight
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

_LACKS: Final = frozenset({"nothing_recognised", "no_weights", "role_missing"})
"""Findings that weights are not where they should be."""
_OF_MODELS: Final = frozenset({"architectures", "model_type"})
"""Fields of a `config.json` by which loaders choose the class of a model."""
_WITHOUT_WEIGHTS: Final = frozenset({"huggingface", "tokenizer", "processor"})
"""Folders that hold a model's configuration and no weights by design, such as verl's beside its shards."""
_OF_FILE_SYSTEMS: Final = "lost+found"
"""The folder in which checking a disk leaves what it found, for root alone."""
_OF_OTHERS: Final = frozenset({".onnx", ".gguf", ".h5", ".msgpack", ".ot", ".tflite", ".mlpackage"})
"""Endings of weights that nothing here reads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Below:
    """What lies in the folders right below one, apart from what belongs to the model in it."""

    steps: tuple[Path, ...] = ()
    """Of a run, by number; the last ones may be without weights."""
    models: tuple[Path, ...] = ()
    """Others, what should be one by its name or its configuration, what a trainer saves beside them, such as
    `optimizer_0/`, and runs.

    A run is a folder that holds steps, such as accelerate's `checkpoints/`.
    """
    bare: tuple[Path, ...] = ()
    """Beside models: folders with a model's configuration, and no weights of any kind. They may have been lost."""
    unread: tuple[Path, ...] = ()
    """Beside weights or steps: folders that this user may not look into."""

    @property
    def nothing(self) -> bool:
        """Whether there is neither."""
        return not (self.steps or self.models)


def look_below(path: Path, files: Collection[Path], *, whole: bool) -> Below:
    """Find the checkpoints below the folder `path`, by names alone.

    Beside weights or steps, links that are named otherwise than steps are other names of what lies elsewhere, and are
    not followed.

    Args:
        path: the folder.
        files: what belongs to the model in it.
        whole: whether there is one, with weights.

    Raises:
        OSError: a folder cannot be looked at.
    """
    folders = _folders(path)
    if not folders:
        return Below()
    steps = numbered_steps(path)
    own = {path / file.relative_to(path).parts[0] for file in files if file.is_relative_to(path)}
    if detect(path) == "deepspeed":
        own |= set(tags.tags(path))
        steps = [step for step in steps if step not in own and holds_weights(step)]  # of tags, `latest` decides
    steps = [step for step in steps if step not in own]
    beside, taken = whole or bool(steps), {*own, *steps}
    others = [entry for entry in folders if entry not in taken and not (beside and entry.is_symlink())]
    held = {entry: _holds_model(entry, beside=beside) for entry in others}
    models = [entry for entry, is_model in held.items() if is_model]
    unread = [entry for entry, is_model in held.items() if is_model is None]
    bare: list[Path] = []
    if not (beside or any(not is_beside(entry.name) for entry in models)):
        models = []
    elif not beside:
        models = sorted({*models, *(path / role for role in ROLES if (path / role).is_dir())})
        bare = [entry for entry in folders if entry not in {*taken, *models} and _is_bare(entry)]
    return Below(steps=tuple(steps), models=tuple(models), bare=tuple(bare), unread=tuple(unread))


def steps_in(folder: Path) -> list[Path]:
    """Return the steps of a run in a folder below another, by number; of links one to a folder of steps is followed.

    Raises:
        OSError: a folder cannot be looked at.
    """
    if folder.is_symlink() and not names_folder_of_steps(folder.name):
        return []
    return [step for step in numbered_steps(folder) if not is_in_flight(step)]


def dead_steps(folder: Path, steps: Sequence[Path]) -> list[CkptFinding]:
    """Say which links in a folder are named as its steps and lead to nothing, as where a disk is not mounted.

    Nobody knows what a newer one than all of `steps` holds: that decides. An older one is a warning.

    Args:
        folder: of a run.
        steps: those that are there, by number.

    Raises:
        OSError: the folder cannot be listed.
    """
    alike = {around_step(step.name) for step in steps}
    last = max((number for step in steps if (number := names_step(step.name)) is not None), default=-1)
    found = []
    for link in sorted(folder.iterdir()):
        number = names_step(link.name)
        if number is None or around_step(link.name) not in alike or not link.is_symlink() or link.exists():
            continue
        message = f"it is a link to {resolved(link)}, which is not there"
        remedy = "mount what it leads to, or remove the link; then verify again"
        dead = finding("unreadable", message, remedy=remedy, path=link)
        found.append(dead if number > last else replace(dead, severity=Severity.WARN))
    return found


def lost_roles(steps: Sequence[Path]) -> dict[Path, list[CkptFinding]]:
    """Say which steps of a run lack a model that an earlier step has.

    Later steps say nothing: verl may keep fewer critics than actors, or fewer actors than critics.

    Args:
        steps: by number.

    Raises:
        OSError: a folder cannot be listed.
    """
    roles = {step: roles_in(step) for step in steps if detect(step) is None}
    lost: dict[Path, list[CkptFinding]] = {}
    holders: dict[str, Path] = {}  # of each role, the first step so far
    for step, here in roles.items():
        for role, holder in sorted(holders.items()):
            if here and not (step / role).is_dir():
                message = f"the {brief(role)[1:-1]} is not here, which {holder.name} has"
                code = "no_weights" if role in POLICIES else "role_missing"
                found = finding(code, message, remedy=locate_remedy(step), path=step)
                lost.setdefault(step, []).append(found)
        for role in here:
            holders.setdefault(role, step)
    return lost


def perhaps_saving(found: CkptFinding) -> CkptFinding:
    """Say, where the newest step of a run lacks weights, that a save to it may be going on.

    Args:
        found: of that step; what says nothing of weights that lack is returned as it is.
    """
    if found.code not in _LACKS:
        return found
    message = f"{found.message}; a save of its weights may be going on, or was cut off"
    return replace(found, message=message, remedy=f"verify again when it is done; else {found.remedy}")


def without_policy(steps: Sequence[Path]) -> set[Path]:
    """Return the steps that hold others, but not the model that is trained, where some step has that.

    They are no steps to go on from, or to use.

    Raises:
        OSError: a folder cannot be listed.
    """
    roles = {step: roles_in(step) for step in steps if detect(step) is None}
    lacking = {step for step, here in roles.items() if here and not any(role in POLICIES for role in here)}
    return lacking if any(role in POLICIES for here in roles.values() for role in here) else set()


def _folders(path: Path) -> list[Path]:
    """Return the folders right below one, by name; of its thousand files none is asked what it is."""
    with os.scandir(path) as entries:
        return sorted(path / entry.name for entry in entries if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        if entry.is_symlink():
            return False  # it leads in a circle, or to where nobody may look: no folder of a checkpoint
        raise


def without_weights_beside(bare: Sequence[Path]) -> list[CkptFinding]:
    """Say which folders beside models have the configuration of one, and no weights: none is judged."""
    message = "it has the configuration of a model and no weights, which the models beside it have"
    remedy = "if it should hold some: "
    return [
        replace(
            finding("no_weights", message, remedy=remedy + locate_remedy(folder), path=folder), severity=Severity.WARN
        )
        for folder in bare
    ]


def not_looked_into(unread: Sequence[Path]) -> list[CkptFinding]:
    """Say which folders beside weights or steps may hold a model that nobody judged."""
    message = "it may not be looked into: a model in it is not judged"
    return [
        replace(finding("unreadable", message, remedy=READ_AGAIN, path=folder), severity=Severity.WARN)
        for folder in unread
        if folder.name != _OF_FILE_SYSTEMS
    ]


def _is_bare(folder: Path) -> bool:
    """Return whether a folder has a model's configuration, and no weights of any kind; False where nobody may look."""
    if folder.name in _WITHOUT_WEIGHTS:
        return False
    try:
        if any(file.suffix in _OF_OTHERS for file in folder.iterdir()):
            return False
        return not _OF_MODELS.isdisjoint(read_config(folder / CONFIG_NAME))
    except FormatError:
        return True  # cut off, say, as the weights may be
    except OSError:
        return False


def _holds_model(folder: Path, *, beside: bool) -> bool | None:
    """Return whether a folder holds a model, or steps; None where it lies beside some and may not be looked into."""
    try:
        return detect(folder) is not None or bool(steps_in(folder))
    except PermissionError:
        if beside:
            return None
        raise
