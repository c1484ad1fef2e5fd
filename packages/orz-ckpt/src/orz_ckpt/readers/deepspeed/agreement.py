"""Whether the shards of a checkpoint are all there, and all of one save.

A tag's folder is written file by file, by every rank on its own, and an older save under the same tag is overwritten
likewise. So a crash, a restart with other ranks, or disks that only some nodes share leave a folder that
looks like a checkpoint. DeepSpeed 0.19.8 compares nothing but the number of files (`utils/zero_to_fp32.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

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


def disagreements(models: Sequence[ModelState], states: Mapping[int, OptimizerState]) -> list[CkptFinding]:
    """Say where shards are of different steps or versions."""
    findings: list[CkptFinding] = []
    by_step: dict[int, list[int]] = {}
    for rank, state in states.items():
        if state.step is not None:
            by_step.setdefault(state.step, []).append(rank)
    if len(by_step) > 1:
        findings.append(_mixed(by_step, states))
    steps = {model.step: model.path for model in models if model.step is not None}
    if len(steps) > 1:
        text = f"the model files are of steps {spans(steps)}"
        findings.append(finding("steps_mixed", text, remedy=_OTHERS, path=steps[min(steps)]))
    versions = {model.version: model.path for model in models if model.version}
    versions |= {state.version: state.path for state in states.values() if state.version}
    if len(versions) > 1:
        text = f"the files are of DeepSpeed {' and '.join(sorted(versions))}"
        findings.append(finding("versions_mixed", text, remedy=_OTHERS, path=versions[min(versions)]))
    worlds = {model.world_size: model.path for model in models if model.world_size is not None}
    if len(worlds) > 1:
        text = f"the model files are of runs of {spans(worlds)} ranks"
        findings.append(finding("worlds_mixed", text, remedy=_OTHERS, path=worlds[min(worlds)]))
    return findings


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


def _mixed(by_step: Mapping[int, Sequence[int]], states: Mapping[int, OptimizerState]) -> CkptFinding:
    said = "; ".join(f"{ranks_text(ranks)}: step {step}" for step, ranks in sorted(by_step.items()))
    usual = max(by_step, key=lambda step: len(by_step[step]))
    first = min(rank for step, ranks in by_step.items() if step != usual for rank in ranks)
    return finding(
        "steps_mixed", f"the optimizers' counts of steps differ ({said})", remedy=_OTHERS, path=states[first].path
    )
