"""Whether the shards of a checkpoint are all there, and all of one save.

A tag's folder is written file by file, by every rank on its own, and an older save under the same tag is overwritten
likewise. So a crash, a restart with other ranks, or disks that only some nodes share leave a folder that
looks like a checkpoint. DeepSpeed 0.19.8 compares nothing but the number of files (`utils/zero_to_fp32.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

from orz_ckpt.findings import finding
from orz_ckpt.readers.deepspeed.names import Kind, shard
from orz_ckpt.readers.remedies import FETCH_RANK
from orz_ckpt.report.words import ranks as ranks_text
from orz_ckpt.report.words import spans

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.readers.deepspeed.names import Shard
    from orz_ckpt.readers.deepspeed.states import ModelState, OptimizerState

_T = TypeVar("_T", int, str)
LOCATE: Final = (
    "each rank writes to its own node: look for the others with `orz ckpt locate`, bring them together with "
    "`orz ckpt collect`"
)
_TIMES: Final = "look at the files' times: a save takes seconds to minutes, and the next one comes later"
_OTHERS: Final = "move the files of the other save out of this folder, or use another tag"


def world_of(states: Mapping[int, OptimizerState]) -> tuple[int, list[CkptFinding]]:
    """Return how many ranks saved the checkpoint, and what the shards do not agree on.

    Where they name several numbers, the largest one counts whose ranks are all there, else the one that most name.
    """
    named: dict[int, list[int]] = {}
    for rank, state in states.items():
        named.setdefault(max(state.partitions), []).append(rank)
    whole = [world for world, ranks in named.items() if set(ranks) >= set(range(world))]
    world = max(whole) if whole else Counter({world: len(ranks) for world, ranks in named.items()}).most_common(1)[0][0]
    if len(named) == 1:
        return world, []
    said = "; ".join(f"{ranks_text(ranks)}: of {count}" for count, ranks in sorted(named.items()))
    first = states[min(rank for count, ranks in named.items() if count != world for rank in ranks)].path
    text = f"the shards are of runs with different numbers of ranks ({said})"
    return world, [finding("worlds_mixed", text, remedy=_OTHERS, path=first)]


def stale(shards: Collection[Shard], world: int) -> list[CkptFinding]:
    """Say which files belong to ranks that there are not."""
    return [
        finding(
            "shard_stale",
            f"it is of rank {shard.rank}, and {world} ranks saved this checkpoint (0-{world - 1})",
            remedy=_OTHERS,
            path=shard.path,
        )
        for shard in shards
        if shard.rank >= world and shard.kind in {Kind.OPTIMIZER, Kind.MODEL_SHARD}
    ]


def missing(folder: Path, kind: Kind, present: Collection[int], world: int, *, code: str) -> list[CkptFinding]:
    """Say which ranks' files are not there."""
    absent = set(range(world)) - set(present)
    if not absent:
        return []
    pattern = "*zero_pp_rank_*_optim_states.pt" if kind is Kind.OPTIMIZER else "zero_pp_rank_*_model_states.pt"
    here = set(range(world)) & set(present)
    held = f" ({ranks_text(here)})" if here else ""
    text = f"{len(here)} of {world} shards {pattern} are here{held}; missing: {ranks_text(absent)}"
    return [finding(code, text, remedy=LOCATE, path=folder)]


def other_ranks(files: Iterable[ModelState | OptimizerState]) -> list[CkptFinding]:
    """Say which files were saved under the name of another rank: a copy under a wrong name holds what fits in size.

    A file that torch wrote to a stream does not say how it was called, and one of no rank's name says nothing.
    """
    findings = []
    for file in files:
        saved_as = f"{file.stem}.pt"
        if saved_as == file.path.name:
            continue
        now, then = shard(file.path), shard(file.path.with_name(saved_as))
        if now is None or then is None or now.kind is not then.kind:
            continue
        if (now.rank, now.model_rank) != (then.rank, then.model_rank):
            text = f"it was saved as {saved_as}, and is named after another rank"
            findings.append(finding("rank_differs", text, remedy=FETCH_RANK, path=file.path))
    return findings


def disagreements(models: Mapping[int, ModelState], states: Mapping[int, OptimizerState]) -> list[CkptFinding]:
    """Say where shards, by rank, are of different steps, versions or numbers of ranks."""
    saved, taken = models.items(), states.items()
    files: list[tuple[int, ModelState | OptimizerState]] = [*saved, *taken]
    return [
        *_mixed(
            "steps_mixed",
            "the optimizers' counts of steps differ",
            [(rank, state.path, state.step) for rank, state in taken],
            unit="step ",
        ),
        *_mixed(
            "steps_mixed",
            "the model files are of different steps",
            [(rank, model.path, model.step) for rank, model in saved],
            unit="step ",
        ),
        *_mixed(
            "versions_mixed",
            "the files are of different versions of DeepSpeed",
            [(rank, file.path, file.version or None) for rank, file in files],
        ),
        *_mixed(
            "worlds_mixed",
            "the model files are of runs with different numbers of ranks",
            [(rank, model.path, model.world_size) for rank, model in saved],
            unit="of ",
        ),
    ]


def _mixed(code: str, text: str, said: Sequence[tuple[int, Path, _T | None]], *, unit: str = "") -> list[CkptFinding]:
    """Say which ranks' files say what, at the first file that does not say what most do.

    Args:
        code: of the finding.
        text: what it means that they differ.
        said: rank, file and what it says; None where that is nothing.
        unit: written before what is said.
    """
    files: dict[_T, list[tuple[int, Path]]] = {}
    for rank, path, value in said:
        if value is not None:
            files.setdefault(value, []).append((rank, path))
    if len(files) <= 1:  # all that say something say the same
        return []
    told = "; ".join(f"{ranks_text(rank for rank, _ in files[value])}: {unit}{value}" for value in sorted(files))
    usual = max(files, key=lambda value: len(files[value]))
    _, first = min(file for value in files if value != usual for file in files[value])
    return [finding(code, f"{text} ({told})", remedy=_OTHERS, path=first)]


def compare_counts(models: Sequence[ModelState], states: Mapping[int, OptimizerState]) -> list[CkptFinding]:
    """Compare the steps that ZeRO-3's model files count with those that its optimizers took.

    There is no second copy of the weights to compare them with, as there is under ZeRO-1 and ZeRO-2. The counts may
    differ in one save, too, so that they do is a warning: of a run that went on without its optimizer's state.
    """
    silent = [rank for rank, state in states.items() if state.step is None]
    if silent and len(states) > 1:
        text = f"the optimizers of {ranks_text(silent)} count no steps, so nothing says that all ranks are of one save"
        return [finding("steps_not_compared", text, remedy=_TIMES, path=states[silent[0]].path)]
    counted = {model.step - model.skipped_steps: model for model in models if model.step is not None}
    taken = {state.step for state in states.values() if state.step is not None}
    if len(counted) != 1 or len(taken) != 1 or counted.keys() == taken:
        return []
    ((steps, model),) = counted.items()
    skipped = f" of {model.step}, without the {model.skipped_steps} skipped" if model.skipped_steps else ""
    text = f"the model files count {steps} steps{skipped}, and the optimizers took {spans(taken)}"
    return [finding("step_counts_differ", text, remedy=_TIMES, path=model.path)]
