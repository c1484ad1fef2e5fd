"""Any checkpoint as a `Source`: which model is meant where a folder holds several, and what is said where none is."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.beside_lost import names_another, perhaps_older
from orz_ckpt.checks.elsewhere import locate_remedy
from orz_ckpt.checks.links import check_links
from orz_ckpt.checks.model import is_beside
from orz_ckpt.disk.links import leads_back
from orz_ckpt.errors import FormatError, NoWeightsError, SeveralError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.architectures import says_critic
from orz_ckpt.formats.hf import CONFIG_NAME, read_config
from orz_ckpt.inventory import checkpoints_in, folder_of_steps
from orz_ckpt.layouts import Asked, format_held, format_of
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.quoting import locate_command
from orz_ckpt.report.words import count
from orz_ckpt.steps import around_step, final_name, names_step
from orz_ckpt.subject import Kind, identify
from orz_ckpt.tensors.names import is_value_head
from orz_ckpt.unfinished import COLLECTING, begun_at, copied_in, go_on_collecting
from orz_cli.errors import UsageError
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.tensors.source import Source

_ACCEPTED: Final = (
    "a .safetensors or .pt file, a Hugging Face folder, a step folder of orz-train, or a folder that DeepSpeed, FSDP"
    " (verl), torch.distributed.checkpoint or PEFT wrote"
)
_RECORDS: Final = (".json", ".jsonl", ".yaml", ".yml", ".txt", ".log", ".md", ".jinja", "tokenizer.model")
"""What lies where a run was driven from, even if its weights went elsewhere; what is saved beside a model is, too."""
_TAGS: Final = "leave --tag out: it names one of the checkpoints in a folder of DeepSpeed"
_EVENTS: Final = "events.out.tfevents"
"""How the files of TensorBoard begin."""
_MAX_RECORDS: Final = 10_000
"""So many records without a weight between them: there are none."""
POLICIES: Final = ("policy", "actor", "_actor")
"""Names of the folder of the model that is trained, where others are beside it."""
ROLES: Final = (*POLICIES, "critic", "_critic")
"""Names of folders of models that lie side by side in a step: orz-train and Open-Reasoner-Zero, verl, OpenRLHF."""
_MAX_NAMED: Final = 5


def detect(path: Path) -> str | None:
    """Return the format whose layout `path` has, None where it has none of them.

    Raises:
        MissingPathError: nothing is there.
        OSError: it cannot be looked at.
    """
    identify(path)
    found = format_of(path)
    return found.name if found else None


def open_source(path: Path, *, tag: str = "", inert: frozenset[str] = frozenset(), dtype: str = "keep") -> Source:
    """List the tensors of the checkpoint at `path`; no weight is read. Links that lead out of it are findings.

    Args:
        path: a file, a folder of a known format, or a step folder with one role in it.
        tag: of a DeepSpeed folder: which of its checkpoints; the one that `latest` names where empty.
        inert: names of pickle globals that may stand for objects that are never made.
        dtype: in which type the weights will be used; where two copies are there, the one that fits is taken.

    Raises:
        MissingPathError: nothing is there.
        NoWeightsError: nothing there is of a known format; it says what is.
        SeveralError: several models are there, and one has to be named.
        FormatError: it is of a format and cannot be read.
        UsageError: a tag is given of what has none.
        OSError: it cannot be looked at.
    """
    subject = identify(path)
    found = format_of(path)
    if found is not None:
        if tag and found.name != "deepspeed":
            raise UsageError(f"--tag {tag}: {path} has no tags, being of the format {found.name}", remedy=_TAGS)
        source = found.read(path, Asked(tag=tag, inert=inert, dtype=dtype))
        escaped = check_links(subject, source)
        return replace(source, findings=(*source.findings, *escaped)) if escaped else source
    if subject.kind is Kind.RUN:
        raise _run(subject.path)
    held, lost = roles_in(path), lost_in(path)
    beside = lost_beside(path, inert=inert)
    roles = held if beside else dict(sorted({**held, **lost}.items()))
    if len(roles) == 1:
        source = open_source(next(iter(roles.values())), tag=tag, inert=inert, dtype=dtype)
        return replace(source, findings=(*source.findings, *without_weights(beside))) if beside else source
    if roles:
        raise _several(path, held, lost)
    steps = [step for step in numbered_steps(path) if holds_weights(step)]
    if steps:
        message = f"{path} holds {count(len(steps), 'step')} of a run, not one checkpoint"
        raise SeveralError(message, remedy=_one_model(steps[-1]))
    raise _nothing(path)


def numbered_steps(path: Path) -> list[Path]:
    """Return the folders right below `path` that are named by a step, by number, as far as they are a run's.

    These are those that hold weights or roles, and the later ones that are named alike and hold none: their weights
    may be elsewhere. Earlier ones without are what a trainer leaves that deletes old weights, such as verl. A link back
    to a folder around it is none.

    Raises:
        OSError: the folder cannot be listed.
    """
    if not path.is_dir():
        return []
    named = [(step, entry) for entry in path.iterdir() if (step := names_step(entry.name)) is not None]
    steps = [(step, entry) for step, entry in sorted(named) if entry.is_dir() and not leads_back(entry)]
    held = [(step, entry) for step, entry in steps if holds_weights(entry)]
    alike = {around_step(entry.name) for _, entry in held}
    later = [(step, entry) for step, entry in steps if held and step > held[-1][0]]
    return [entry for _, entry in (*held, *(each for each in later if around_step(each[1].name) in alike))]


def holds_weights(folder: Path) -> bool:
    """Return whether a folder holds a model, or several side by side, by names alone.

    Raises:
        OSError: it cannot be looked at.
    """
    return format_held(folder) is not None or bool(roles_in(folder))


def roles_in(path: Path) -> dict[str, Path]:
    """Return the folders right below `path` that hold a model, by name: policy, critic, actor, ...

    What a trainer saves beside it, such as accelerate's `optimizer_0/`, is none.

    Raises:
        OSError: the folder cannot be listed.
    """
    return {entry.name: entry for entry in _folders(path) if format_held(entry)}


def lost_in(path: Path) -> dict[str, Path]:
    """Return the folders right below `path` that held a model, of whose weights nothing is left, by name.

    Raises:
        OSError: the folder cannot be listed.
    """
    return {entry.name: entry for entry in _folders(path) if format_of(entry) and not format_held(entry)}


def lost_beside(path: Path, *, inert: frozenset[str] = frozenset()) -> dict[str, Path]:
    """Return the folders of `lost_in` that may be left out: beside them one holds weights, and is what is meant.

    A critic, a reference or a reward model is not, where the model that is trained may be lost, nor is a step where a
    later one is lost, by the name of what is lost or by its `latest`.

    Args:
        path: the folder that they lie in.
        inert: as for `open_source`.

    Raises:
        FormatError: that one cannot be read.
        OSError: a folder cannot be looked at.
    """
    held, lost = roles_in(path), lost_in(path)
    if len(held) != 1 or not lost:
        return {}
    only = next(iter(held.values()))
    return {} if perhaps_older(only, lost.values()) or _is_another(only, inert) else lost


def without_weights(lost: Mapping[str, Path]) -> list[CkptFinding]:
    """Say which folders beside the model that is taken hold no weights any more."""
    message = "a model was saved here, and no weights are left; the model beside it is taken"
    return [
        replace(
            finding("no_weights", message, remedy=f"if you mean this one: {locate_remedy(folder)}", path=folder),
            severity=Severity.WARN,
        )
        for folder in lost.values()
    ]


def _folders(path: Path) -> list[Path]:
    """Return the folders right below one in which a model may lie, by name; of a file there are none."""
    if not path.is_dir():
        return []
    return [entry for entry in sorted(path.iterdir()) if not is_beside(entry.name) and entry.is_dir()]


def _is_another(folder: Path, inert: frozenset[str]) -> bool:
    """Return whether a model is not the trained one, by its name, its configuration or its head."""
    if names_another(folder.name):
        return True
    source = open_source(folder, inert=inert)
    try:
        says = says_critic(read_config((source.model_folder or folder) / CONFIG_NAME))
    except (FormatError, OSError):
        says = None
    if says is not None:  # a critic, or a reward model
        return True
    return any(is_value_head(name, tensor.shape) for name, tensor in source.tensors.items())


def _several(path: Path, held: Mapping[str, Path], lost: Mapping[str, Path]) -> SeveralError:
    """Say which models a folder holds, and held, of which one has to be named."""
    roles = {**held, **lost}
    message = f"{path} holds {len(roles)} models: {', '.join(sorted(roles))}"
    remedy = f"give one: {' or '.join(str(role) for role in _policy_first(held or roles))}"
    if lost:
        message += f"; no weights are left in {', '.join(lost)}"
        remedy += f"; for what is lost, {_search(path)}"
    return SeveralError(message, remedy=remedy)


def _run(path: Path) -> SeveralError:
    steps = checkpoints_in(folder_of_steps(path))
    chosen = [entry.path for entry in steps if entry.committed] or [entry.path for entry in steps]
    if not chosen:  # of accelerate, say
        others = numbered_steps(folder_of_steps(path))
        chosen = [step for step in others if holds_weights(step) and final_name(step.name) is None]
    if not chosen and (command := go_on_collecting(path)):
        return SeveralError(f"{path} is a run that holds no checkpoint yet: {COLLECTING}", remedy=_go_on(command))
    remedy = _one_model(chosen[-1]) if chosen else f"it holds none yet; {_search(path)}"
    return SeveralError(f"{path} is a run, not a checkpoint", remedy=remedy)


def _one_model(step: Path) -> str:
    """Name the policy where a step has one, else another of its models, and then what lost its weights beside it.

    The step itself is not named where it has models: which is meant would be asked again.
    """
    held, lost = roles_in(step), lost_in(step)
    remedy = f"give one of its models: {next(iter(_policy_first(held)), step)}"
    if not lost or any(name in POLICIES for name in held):
        return remedy
    return f"{remedy}; no weights are left in {', '.join(lost)}: {_search(step)}"


def _policy_first(roles: Mapping[str, Path]) -> list[Path]:
    """Return the folders of models with those first that are meant most often."""
    return [roles[name] for name in sorted(roles, key=lambda name: (name not in POLICIES, name))]


def _nothing(path: Path) -> NoWeightsError:
    """Say what is there instead of weights."""
    if not path.is_dir():
        return _no_weights(path)
    if begun := _begun(path):
        return begun
    names = sorted(entry.name for entry in path.iterdir() if entry.name != MANIFEST_NAME)
    if not names:
        return NoWeightsError(f"{path} is empty", remedy=_search(path))
    shown = ", ".join(ascii(name)[1:-1] for name in names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")
    if not any(names for _, _, names in os.walk(path)):
        return NoWeightsError(f"{path} holds no file, only empty folders: {shown}", remedy=_search(path))
    if _only_records(path):
        return NoWeightsError(
            f"{path} holds no weights, only records: {shown}; the weights may have been written elsewhere: to another"
            " node, or below another working directory",
            remedy=_search(path),
        )
    return NoWeightsError(f"{path} holds no weights in a format known here: {shown}", remedy=f"give {_ACCEPTED}")


def _begun(path: Path) -> NoWeightsError | None:
    """Say what brings weights to a folder and goes on, or was cut off; None where nothing does."""
    if command := go_on_collecting(path):
        return NoWeightsError(f"{path} holds no weights yet: {COLLECTING}", remedy=_go_on(command))
    for dest in copied_in(path):
        if said := begun_at(dest):
            why, remedy = said
            return NoWeightsError(f"{path} holds no weights, and {dest.name} is not there yet: {why}", remedy=remedy)
    return None


def _no_weights(path: Path) -> NoWeightsError:
    """Say what a file is instead of one of weights."""
    if format_of(path.parent) is not None:
        return NoWeightsError(f"{path} is no file of weights", remedy=f"give its folder: {path.parent}")
    kind = f"a file with the suffix {path.suffix}" if path.suffix else "a file without suffix"
    return NoWeightsError(f"{path} is {kind}, which is no format of weights known here", remedy=f"give {_ACCEPTED}")


def _go_on(command: str) -> str:
    return f"go on with it: {command}"


def _only_records(path: Path) -> bool:
    """Return whether what lies in a folder and below is what a run writes where it was driven from: no weights."""
    seen = 0
    for _, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not is_beside(name)]
        if not all(name.endswith(_RECORDS) or name.startswith(_EVENTS) or is_beside(name) for name in names):
            return False
        seen += len(names)
        if seen > _MAX_RECORDS:
            break
    return True


def _search(path: Path) -> str:
    return f"search for them: {locate_command(path)}    # on a node of the cluster, or --hosts"
