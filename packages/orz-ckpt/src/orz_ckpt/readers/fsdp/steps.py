"""Whether the files of all ranks are of one step: weights alone do not say of which they are.

What says so lies beside them: the scheduler's step in `extra_state_*`, the optimizer's count in `optim_*`. The two
count different things (an optimizer takes several steps an update), so each is compared between ranks by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import finding
from orz_ckpt.formats.torch_file import load
from orz_ckpt.readers.remedies import ONE_SAVE
from orz_ckpt.readers.save_times import check_times
from orz_ckpt.readers.step_counts import optimizer_step
from orz_ckpt.report.words import ranks
from orz_ckpt.strict_json import is_size

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.readers.fsdp.files import RankFiles


def check_steps(files: RankFiles, inert: frozenset[str]) -> tuple[dict[str, dict[int, int]], list[CkptFinding]]:
    """Compare what the files beside the weights say of their step, and when the weights were written.

    Args:
        files: of one save, as their names say.
        inert: as for `fsdp.read`.

    Returns:
        The steps that were found, by who counts them and rank; and what does not agree, or could not be compared.

    Raises:
        HostileError: a file would run code if torch loaded it.
        OSError: a file cannot be read.
    """
    torn: list[CkptFinding] = []
    by_scheduler = _stated(files.extras, _scheduled, inert, torn)
    # An optimizer's file says much, so it is asked only where the schedules leave a rank out.
    by_optimizer = {} if by_scheduler.keys() >= files.models.keys() else _stated(files.optimizers, _taken, inert, torn)
    counts = {"scheduler": by_scheduler, "optimizer": by_optimizer}
    mixed = [found for stated in counts.values() if (found := _mixed(stated, files.path)) is not None]
    findings = [*torn, *mixed[:1]]
    if not mixed and not torn and len(files.models) > 1:
        findings += _untold(files, by_scheduler, by_optimizer)
    return counts, findings


def _untold(files: RankFiles, by_scheduler: Collection[int], by_optimizer: Collection[int]) -> Iterator[CkptFinding]:
    """Say which ranks nothing compares with the others."""
    told = max((set(by_scheduler), set(by_optimizer)), key=len)
    silent = set(files.models) - told
    if silent:
        message = f"of {ranks(silent)} no file says of which step the weights are: extra_state_* or optim_* would"
        remedy = "compare the files' times with those of the other ranks; save extra_state with the model"
        yield finding("steps_not_compared", message, remedy=remedy, path=files.path)
    else:
        yield from check_times(list(files.models.values()), files.path)


def _stated(
    files: Mapping[int, Path],
    step_of: Callable[[object], int | None],
    inert: frozenset[str],
    torn: list[CkptFinding],
) -> dict[int, int]:
    """Return the step that each rank's file states, and add to `torn` which files are broken."""
    stated: dict[int, int] = {}
    for rank, file in files.items():
        try:
            step = step_of(load(file, inert=inert).value)
        except FormatError as error:
            torn.append(finding("steps_not_compared", error.message, remedy=error.remedy, path=file))
            continue
        if step is not None:
            stated[rank] = step
    return stated


def _scheduled(value: object) -> int | None:
    schedule = value.get("lr_scheduler") if isinstance(value, dict) else None
    step = schedule.get("last_epoch") if isinstance(schedule, dict) else None
    return step if is_size(step) else None


def _taken(value: object) -> int | None:
    return optimizer_step(value) if isinstance(value, dict) else None


def _mixed(stated: Mapping[int, int], path: Path) -> CkptFinding | None:
    by_step: dict[int, list[int]] = {}
    for rank, step in stated.items():
        by_step.setdefault(step, []).append(rank)
    if len(by_step) < 2:  # noqa: PLR2004  one step, or none
        return None
    texts = ", ".join(f"{ranks(of_step)} of step {step}" for step, of_step in sorted(by_step.items()))
    return finding("steps_mixed", f"the files are of different steps: {texts}", remedy=ONE_SAVE, path=path)
