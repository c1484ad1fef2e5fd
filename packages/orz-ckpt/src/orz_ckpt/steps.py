"""The steps of a run of another framework: folders side by side that are named by number.

verl (`global_step_100`), transformers (`checkpoint-100`), torchtitan (`step-100`), Open-Reasoner-Zero (`iter100`). They
are ordered by their numbers: times change when files are copied, and clocks of nodes differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.shards import behind
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.node.pieces import step_named
from orz_ckpt.plain import open_plain
from orz_ckpt.sources import detect, roles_in
from orz_ckpt.strict_json import brief

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LATEST_NAMES: Final = ("latest_checkpointed_iteration.txt",)
"""Files beside the steps that name the newest: verl, Megatron-LM."""
_MAX_BYTES: Final = 64


def numbered_steps(path: Path) -> list[Path]:
    """Return the folders right below `path` that are named by a step and hold weights, by number.

    Raises:
        OSError: the folder cannot be listed.
    """
    found = []
    for entry in path.iterdir():
        step = step_named(entry.name)
        if step is not None and entry.is_dir() and (detect(entry) is not None or roles_in(entry)):
            found.append((step, entry))
    return [entry for _, entry in sorted(found)]


def check_latest(path: Path, steps: Sequence[Path]) -> Iterator[CkptFinding]:
    """Compare what a file beside the steps names the newest with the steps that are here.

    Raises:
        OSError: it cannot be read.
    """
    for name in LATEST_NAMES:
        file = path / name
        if not file.is_file():
            continue
        with open_plain(file) as stream:
            text = stream.read(_MAX_BYTES).decode("utf-8", "replace").strip()
        numbers = {step_named(step.name): step.name for step in steps}
        stated = int(text) if text.isascii() and text.isdigit() else None
        if stated is None:
            message = f"{brief(text)} is not the number of a step"
            yield finding("tag_missing", message, remedy=f"the newest step here is {steps[-1].name}", path=file)
        elif stated not in numbers:
            message = (
                f"it names step {stated}, which is not here; steps here: {', '.join(map(brief, numbers.values()))}"
            )
            remedy = f"it may be on another node: orz ckpt locate; the newest step here is {steps[-1].name}"
            yield finding("tag_missing", message, remedy=remedy, path=file)
        elif newer := [text for step, text in numbers.items() if step is not None and step > stated]:
            yield behind(file, numbers[stated], newer)
