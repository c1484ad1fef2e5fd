"""Whether the one model that still has weights may be another than the one that is meant, beside what lost its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import EscapeError, FormatError
from orz_ckpt.readers.deepspeed.tags import LATEST_NAME, read_latest
from orz_ckpt.steps import names_step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_OTHERS: Final = frozenset({"critic", "ref", "reference", "reward", "rm", "value", "teacher"})
"""Words in the names of folders of models that are not the one that is trained: verl, OpenRLHF, ORZ."""
_WORD: Final = re.compile(r"[a-z]+")


def names_another(name: str) -> bool:
    """Return whether a folder is named as one of a critic, a reference or reward model: `_critic`, `ref`, `rm_hf`."""
    return "critic" in name.lower() or not _OTHERS.isdisjoint(_WORD.findall(name.lower()))


def perhaps_older(held: Path, lost: Iterable[Path]) -> bool:
    """Return whether `held` may be of an earlier step than one of the folders that lost their weights.

    Their steps are those that their names and their `latest` state; of a `latest` that states none nothing is known.
    Nor is of a `held` that states none: what lies without a number is what was saved last.
    """
    step = names_step(held.name)
    step = _latest_step(held) if step is None else step
    return step is not None and any(_newest(folder, otherwise=step) > step for folder in lost)


def _newest(folder: Path, *, otherwise: int) -> float:
    """Return the last step that a folder without weights states, infinity where it cannot be told."""
    named = names_step(folder.name)
    named = otherwise if named is None else named
    if not (folder / LATEST_NAME).is_file():
        return named
    step = _latest_step(folder)
    return float("inf") if step is None else max(step, named)


def _latest_step(folder: Path) -> int | None:
    """Return the step that the `latest` of a folder of DeepSpeed names; None where it names none."""
    try:
        return names_step(read_latest(folder / LATEST_NAME))
    except (FormatError, EscapeError, OSError):
        return None
