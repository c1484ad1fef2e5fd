"""What is at a path: format, writer, step, tensors, roles, code. Nothing is judged but what readers find."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orz_ckpt.checks.elsewhere import locate_remedy
from orz_ckpt.checks.files import READ_AGAIN, compare_files, list_files
from orz_ckpt.checks.manifest import check_manifest
from orz_ckpt.checks.model import is_beside
from orz_ckpt.errors import FormatError
from orz_ckpt.examine.below import look_below, steps_in
from orz_ckpt.findings import CkptFinding, conclude, finding
from orz_ckpt.formats.architectures import says_critic
from orz_ckpt.formats.hf import CONFIG_NAME, read_config
from orz_ckpt.inventory import Checkpoint, checkpoint, checkpoints_in, folder_of_steps, foreign_checkpoint
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.sources import (
    detect,
    holds_weights,
    lost_beside,
    numbered_steps,
    open_source,
    roles_in,
    without_weights,
)
from orz_ckpt.steps import names_step, step_named
from orz_ckpt.subject import Kind, has_our_manifest, identify, is_in_flight
from orz_ckpt.tensors.names import is_value_head
from orz_cli.findings import Severity, Status, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.tensors.source import Source, SourceTensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The tensors of one type."""

    dtype: str
    tensors: int
    numbers: int
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One model of a checkpoint."""

    source: Source
    role: str = ""
    """`policy`, `critic`, ...: the folder's name where a checkpoint holds several; of one alone, `critic` where its
    configuration says so, or it has a value head and is no reward model."""
    config: Mapping[str, object] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    """Python files beside the weights, which a loader that trusts remote code runs."""

    @property
    def parameters(self) -> int:
        """How many numbers it has; tied ones once."""
        return sum(tensor.numel for tensor in self.source.tensors.values())

    @property
    def bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.source.tensors.values())

    @property
    def weight_files(self) -> frozenset[Path]:
        """The files that its tensors lie in: none of configuration, tokenizer or index."""
        parts = (part for tensor in self.source.tensors.values() for part in tensor.parts)
        return frozenset(piece.block.path for part in parts for piece in part.pieces)

    @property
    def remote_code(self) -> bool:
        """Whether loading it as its configuration says means running Python code that came with it, or from a hub."""
        return bool(self.code) or "auto_map" in self.config

    def shares(self) -> list[Share]:
        """Return its types, the largest share first."""
        tensors, numbers, sizes = Counter[str](), Counter[str](), Counter[str]()
        for tensor in self.source.tensors.values():
            tensors[tensor.dtype] += 1
            numbers[tensor.dtype] += tensor.numel
            sizes[tensor.dtype] += tensor.nbytes
        return [
            Share(dtype=dtype, tensors=tensors[dtype], numbers=numbers[dtype], bytes=nbytes)
            for dtype, nbytes in sizes.most_common()
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What is at a path."""

    path: Path
    kind: str
    """A source's format, `step` for one of our step folders with several models, or `run`."""
    models: tuple[Model, ...]
    """Of a run: those of its newest committed step; of another trainer's, of its newest step with weights."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """Of a run: all its steps."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Role -> folder, as the manifest says, whether or not weights are there; without one, as the folders are named."""
    lacking: tuple[CkptFinding, ...] = ()
    """What the manifest names and is not there, or why it cannot be used; of a run: that of its newest step, too."""

    @property
    def findings(self) -> tuple[CkptFinding, ...]:
        """What is not there, and what the readers found, each once."""
        read = (entry for model in self.models for entry in model.source.findings)
        told = {(entry.code, entry.path) for entry in self.lacking}
        return (*self.lacking, *(entry for entry in read if (entry.code, entry.path) not in told))

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        return to_json(
            self.status(fail_on),
            self.findings,
            path=str(self.path),
            kind=self.kind,
            roles=dict(self.roles),
            checkpoints=[
                {"step": entry.step, "path": str(entry.path), "committed": entry.committed, "problem": entry.problem}
                for entry in self.checkpoints
            ],
            models=[_model_json(model) for model in self.models],
        )


def inspect(path: Path, *, tag: str = "", inert: frozenset[str] = frozenset()) -> Inspection:
    """Look at `path`: a run, a step folder, or anything that `open_source` reads. No weight is read.

    Raises:
        MissingPathError: nothing is there.
        NoWeightsError: nothing there is of a known format.
        FormatError: it is of a format and cannot be read.
        OSError: it cannot be looked at.
    """
    subject = identify(path)
    if subject.kind in {Kind.RUN, Kind.CHECKPOINT}:
        path = subject.path  # `.` and `..` say nothing of what lies around them
    checkpoints = tuple(checkpoints_in(folder_of_steps(path))) if subject.kind is Kind.RUN else ()
    if subject.kind is Kind.RUN and (checkpoints or not _below(path, None)):  # else it is of another trainer
        unusable = check_manifest(checkpoints[-1].path)[1] if checkpoints and checkpoints[-1].unusable else []
        committed = [entry.path for entry in checkpoints if entry.committed]
        if not committed:
            return Inspection(path=path, kind="run", models=(), checkpoints=checkpoints, lacking=tuple(unusable))
        newest = inspect(committed[-1], tag=tag, inert=inert)
        lacking = (*unusable, *newest.lacking)
        return replace(newest, path=path, kind="run", checkpoints=checkpoints, lacking=lacking)
    if subject.kind is Kind.CHECKPOINT and (path / MANIFEST_NAME).is_file():
        return _committed(path, tag=tag, inert=inert)
    source = open_source(path, tag=tag, inert=inert) if detect(path) is not None else None
    inside = _below(path, source)
    others = _steps_of_others(folder_of_steps(path)) if source is None else ()
    if others:
        return _run_of_others(path, others, inside, tag=tag, inert=inert)
    of_runs = any("/" in name for name in inside)
    beside = {} if source is not None or of_runs else lost_beside(path, inert=inert)
    inside = {name: model for name, model in inside.items() if name not in beside}
    if source is None and (len(inside) > 1 or of_runs or (inside and subject.kind is Kind.CHECKPOINT)):
        kind = "step" if subject.kind is Kind.CHECKPOINT else "folder"
        roles = {name: name for name in inside if step_named(name) is None}
        models, lacking = _models(inside, tag=tag, inert=inert), tuple(without_weights(beside))
        return Inspection(path=path, kind=kind, models=models, roles=roles, lacking=lacking)
    if source is None:
        source, inside = open_source(path, tag=tag, inert=inert), {}
    models = (_model(source, ""), *_models(inside, tag="", inert=inert))
    return Inspection(path=path, kind=source.format, models=models)


def _below(path: Path, source: Source | None) -> dict[str, Path]:
    """Return the folders right below one that hold models of their own, by name; of the tags in it `source` is one."""
    if not path.is_dir():
        return {}
    below = look_below(path, () if source is None else source.files, whole=source is not None)
    folders = [entry for entry in (*below.steps, *below.models) if not is_beside(entry.name)]
    steps = [step for run in below.models if detect(run) is None for step in steps_in(run)]
    found = [entry for folder in (*folders, *steps) for entry in _models_of(folder)]
    return {entry.relative_to(path).as_posix(): entry for entry in found}


def _models_of(folder: Path) -> list[Path]:
    """Return a folder that is a model, or of a step, unless a save to it is going on, the models side by side in it."""
    if detect(folder) is not None:
        return [folder]
    is_step = names_step(folder.name) is not None and not is_in_flight(folder)
    return list(roles_in(folder).values()) if is_step else []


def _steps_of_others(folder: Path) -> tuple[Checkpoint, ...]:
    """Return the steps of a run of another trainer that saves several models in each; else nothing."""
    steps = [step for step in numbered_steps(folder) if not is_in_flight(step)]
    if not any(detect(step) is None and roles_in(step) for step in steps):
        return ()
    named = [(names_step(step.name) or 0, step) for step in steps]
    return tuple(
        checkpoint(number, step)
        if has_our_manifest(step)
        else foreign_checkpoint(number, step, weights=holds_weights(step))
        for number, step in named
    )


def _run_of_others(
    path: Path, steps: tuple[Checkpoint, ...], inside: Mapping[str, Path], *, tag: str, inert: frozenset[str]
) -> Inspection:
    """Show all steps, the models of the newest that holds some, and those that lie beside the steps."""
    newest = inspect([entry.path for entry in steps if holds_weights(entry.path)][-1], tag=tag, inert=inert)
    beside = {name: model for name, model in inside.items() if not any(entry.path in model.parents for entry in steps)}
    models = (*newest.models, *_models(beside, tag=tag, inert=inert))
    return replace(newest, path=path, kind="run", models=models, checkpoints=steps)


def _committed(path: Path, *, tag: str, inert: frozenset[str]) -> Inspection:
    """Look at a folder with a manifest, and compare names and sizes with it."""
    manifest, lacking = check_manifest(path)
    named = {} if manifest is None else dict(manifest.roles)
    if manifest is not None:
        listing = list_files(path)
        compared = [*listing.findings, *compare_files(path, "", manifest, listing)]
        lacking += [entry for entry in compared if entry.code != "file_extra"]
        told = [entry.path for entry in lacking]  # of a file that is missing, where it is one of the role's
        lacking += [
            _empty_role(path / folder, role)
            for role, folder in named.items()
            if _is_empty(path / folder) and not any(name.startswith(f"{path / folder}/") for name in told)
        ]
    roles = roles_in(path)
    if roles or (lacking and detect(path) is None):
        models = _models(roles, tag=tag, inert=inert)
        return Inspection(path=path, kind="step", models=models, roles=named, lacking=tuple(lacking))
    source = open_source(path, tag=tag, inert=inert)
    model = _model(source, "")
    return Inspection(path=path, kind=source.format, models=(model,), roles=named, lacking=tuple(lacking))


def _is_empty(folder: Path) -> bool:
    return not folder.is_dir() or not holds_weights(folder)


def _empty_role(folder: Path, role: str) -> CkptFinding:
    message = f"it holds no weights, and the manifest says that the {role} is there"
    return finding("no_weights", message, remedy=locate_remedy(folder.parent), path=folder)


def _models(roles: Mapping[str, Path], *, tag: str, inert: frozenset[str]) -> tuple[Model, ...]:
    return tuple(_model(open_source(role, tag=tag, inert=inert), name) for name, role in roles.items())


def _model(source: Source, role: str) -> Model:
    folder = source.path if source.path.is_dir() else source.path.parent
    folder = source.model_folder or folder
    config: dict[str, object] = {}
    try:
        config = read_config(folder / CONFIG_NAME) if (folder / CONFIG_NAME).is_file() else {}
    except FormatError:
        pass  # whether it is sound is for `verify` to say
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        unread = finding("unreadable", message, remedy=READ_AGAIN, path=folder / CONFIG_NAME)
        source = replace(source, findings=(*source.findings, unread))
    code = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".py") if source.path.is_dir() else []
    code = [name for name in code if not name.startswith("zero_to_")]  # DeepSpeed's own tools
    critic = says_critic(config)
    if critic is None:
        critic = any(is_value_head(name, tensor.shape) for name, tensor in source.tensors.items())
    return Model(source=source, role=role or ("critic" if critic else ""), config=config, code=tuple(code))


def _model_json(model: Model) -> dict[str, Any]:
    source = model.source
    return {
        "role": model.role,
        "path": str(source.path),
        "format": source.format,
        "writer": source.writer,
        "step": source.step,
        "world_size": source.world_size,
        "architectures": model.config.get("architectures"),
        "files": len(source.files),
        "tensors": [_tensor_json(tensor) for tensor in source.tensors.values()],
        "aliases": dict(source.aliases),
        "parameters": model.parameters,
        "bytes": model.bytes,
        "dtypes": {share.dtype: share.numbers for share in model.shares()},
        "facts": dict(source.facts),
        "code": list(model.code),
        "remote_code": model.remote_code,
    }


def _tensor_json(tensor: SourceTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "bytes": tensor.nbytes,
        "pieces": len(tensor.pieces),
    }
