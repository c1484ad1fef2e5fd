"""The files of a checkpoint with one file a rank, as verl writes them, by their names.

verl (b178a3c), `utils/checkpoint/fsdp_checkpoint_manager.py`: `global_step_<N>/<role>/` with
`{model,optim,extra_state}_world_size_<W>_rank_<R>.pt`, `fsdp_config.json` (`FSDP_version`, `world_size`) and
`huggingface/` (configuration and tokenizer, weights only where asked for).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import finding
from orz_ckpt.formats.hf import CONFIG_NAME, read_config
from orz_ckpt.report.words import ranks
from orz_ckpt.steps import names_step
from orz_ckpt.strict_json import is_size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding

SETTINGS_NAME: Final = "fsdp_config.json"
_FILE: Final = re.compile(r"(?P<kind>model|optim|extra_state)_world_size_(?P<world>\d{1,6})_rank_(?P<rank>\d{1,6})\.pt")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankFiles:
    """The files of one save."""

    path: Path
    world_size: int
    models: Mapping[int, Path]
    """By rank; those of this save, in the order of ranks."""
    extras: Mapping[int, Path]
    """Scheduler and random states, by rank."""
    optimizers: Mapping[int, Path]
    """Optimizer states, by rank."""
    files: tuple[Path, ...]
    """All that belong to it."""
    settings: Mapping[str, object] = field(default_factory=dict)
    findings: tuple[CkptFinding, ...] = ()

    @property
    def missing(self) -> list[int]:
        """The ranks without a file of weights."""
        return [rank for rank in range(self.world_size) if rank not in self.models]

    @property
    def step(self) -> int | None:
        """The step that the folder's name, or that of the one around it, states."""
        steps = map(names_step, (self.path.name, self.path.parent.name))
        return next((step for step in steps if step is not None), None)

    @property
    def model_folder(self) -> Path | None:
        """Where configuration and tokenizer lie; None where there is no such folder."""
        folder = self.path / "huggingface"
        return folder if (folder / CONFIG_NAME).is_file() else None


def holds_ranks(path: Path) -> bool:
    """Return whether a folder has files of weights that are named by rank.

    Raises:
        OSError: it cannot be listed.
    """
    return path.is_dir() and any(
        (match := _FILE.fullmatch(entry.name)) is not None and match["kind"] == "model" for entry in path.iterdir()
    )


def rank_saved(stem: str) -> int | None:
    """Return the rank under whose name torch wrote a file of weights, None where the file does not say.

    Args:
        stem: that of the `TorchFile`.
    """
    match = _FILE.fullmatch(f"{stem}.pt")
    return int(match["rank"]) if match and match["kind"] == "model" else None


def list_ranks(path: Path) -> RankFiles:
    """Sort the files of a folder by rank, and choose those of one save where there are several.

    Raises:
        OSError: the folder cannot be listed.
    """
    found: dict[str, dict[int, dict[int, Path]]] = {"model": {}, "optim": {}, "extra_state": {}}
    for entry in sorted(path.iterdir()):
        if match := _FILE.fullmatch(entry.name):  # what is no file is found out when it is read
            found[match["kind"]].setdefault(int(match["world"]), {})[int(match["rank"])] = entry
    settings, findings = _settings(path)
    models = found["model"]
    stated = settings.get("world_size")
    world_size = _choose(models, stated if is_size(stated) else None)
    if len(models) > 1:
        findings.append(_mixed(path, models, world_size, stated=stated == world_size))
    extra = [rank for rank in models[world_size] if rank >= world_size]
    if extra:
        message = f"{ranks(extra)}: there is a file, and the save was of {world_size} ranks"
        remedy = "it is of another save: move it away"
        findings.append(finding("shard_stale", message, remedy=remedy, path=models[world_size][extra[0]]))
    mine = [files for kind in found.values() for files in (kind.get(world_size, {}),)]
    return RankFiles(
        path=path,
        world_size=world_size,
        models={rank: file for rank, file in sorted(models[world_size].items()) if rank < world_size},
        extras=dict(sorted(found["extra_state"].get(world_size, {}).items())),
        optimizers=dict(sorted(found["optim"].get(world_size, {}).items())),
        files=tuple(sorted(file for files in mine for file in files.values())),
        settings=settings,
        findings=tuple(findings),
    )


def _choose(models: Mapping[int, Mapping[int, Path]], stated: int | None) -> int:
    """Return the number of ranks of the save to read: as stated, else of the one that is complete."""
    if stated is not None and stated in models:
        return stated
    whole = [size for size, files in models.items() if set(range(size)) <= files.keys()]
    return max(whole or models)


def _mixed(path: Path, models: Mapping[int, Mapping[int, Path]], chosen: int, *, stated: bool) -> CkptFinding:
    saves = ", ".join(f"{size} ({len(files)} files)" for size, files in sorted(models.items()))
    remedy = f"move the files of the others away: those named *_world_size_N_* with N other than {chosen}"
    if stated:
        message = f"there are files of saves with {saves} ranks; {SETTINGS_NAME} says that this one had {chosen}"
        return finding("shard_stale", message, remedy=remedy, path=path)
    return finding("worlds_mixed", f"there are files of saves with {saves} ranks", remedy=remedy, path=path)


def _settings(path: Path) -> tuple[dict[str, object], list[CkptFinding]]:
    try:
        return read_config(path / SETTINGS_NAME), []
    except FileNotFoundError:
        return {}, []
    except FormatError as error:
        return {}, [finding("config_invalid", error.message, remedy=error.remedy, path=path / SETTINGS_NAME)]
