"""The file beside the steps of a run that names the newest, against the steps that are here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.plain import open_plain
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.quoting import brief, locate_command
from orz_ckpt.steps import names_step, step_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LATEST_NAMES: Final = ("latest_checkpointed_iteration.txt",)
"""Files beside the steps that name the newest: verl, Megatron-LM."""
_MAX_BYTES: Final = 64
_MAX_NAMED: Final = 3


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
            empty = any(names_step(entry.name) == stated and entry.is_dir() for entry in path.iterdir())
            lacks = "in which there are no weights" if empty else "which is not here"
            message = f"it names step {stated}, {lacks}; steps here: {', '.join(map(brief, numbers.values()))}"
            remedy = f"it may be on another node: {locate_command(path)}; the newest step here is {steps[-1].name}"
            yield finding("tag_missing", message, remedy=remedy, path=file)
        elif newer := [text for step, text in numbers.items() if step is not None and step > stated]:
            yield behind(file, numbers[stated], newer)


def behind(path: Path, here: str, newer: Sequence[str]) -> CkptFinding:
    """Return the finding that newer checkpoints are there than the one that is named the latest."""
    names = ", ".join(map(brief, newer[:_MAX_NAMED]))
    message = f"{brief(here)} is taken, and {names} is newer: a later save is going on, or was cut off"
    return finding(
        "latest_behind",
        message,
        remedy="verify again when it is done, or the newer one by its own path or tag",
        path=path,
    )
