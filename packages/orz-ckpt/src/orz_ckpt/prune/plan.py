"""Which step folders go and which stay, and why. Nothing is deleted here."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from orz_ckpt.inventory import Checkpoint, checkpoints_in
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR, ManifestError, load


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """What is to stay, whatever its age."""

    last: int = 0
    """So many of the newest committed steps."""
    every: int = 0
    """Steps that this divides; 0 for none."""
    steps: frozenset[int] = frozenset()

    def why(self, step: int, newest: Collection[int]) -> str:
        """Return why a step stays; empty where nothing asks for it."""
        if step in self.steps:
            return f"--keep {step}"
        if self.every and step % self.every == 0:
            return f"--keep-every {self.every}"
        return f"--keep-last {self.last}" if step in newest else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One step folder, or what looks like one."""

    path: Path
    step: int
    delete: bool
    why: str
    bytes: int
    """That deleting it gives back: files with another name elsewhere give none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All of a run."""

    entries: Sequence[Planned]
    """By step."""
    newest_good: Path | None
    """The newest step that was verified and stays; nothing as new or newer is deleted."""

    @property
    def doomed(self) -> Sequence[Planned]:
        """What is to be deleted, the oldest first."""
        return [entry for entry in self.entries if entry.delete]


def plan_prune(folder: Path, keep: Keep, is_good: Callable[[Path], bool]) -> Plan:
    """Decide about each step folder in `folder`.

    A step is deleted only if it is committed, nothing asks for it, and a newer committed one that stays was found
    good. So long as none is, nothing is deleted. Links, saves in flight and steps without a manifest are left alone:
    the last may hold this node's part of a save. So are steps with files that are not of their save.

    Args:
        folder: that of a run's checkpoints.
        keep: what is to stay.
        is_good: verifies a step folder; asked from the newest on until one is good.

    Raises:
        OSError: the folder of checkpoints cannot be listed.
    """
    found = checkpoints_in(folder)
    plain = [entry for entry in found if not entry.path.is_symlink()]
    committed = [entry.step for entry in plain if entry.committed]
    last = set(committed[len(committed) - keep.last :] if keep.last else ())
    kept = {entry.step: keep.why(entry.step, last) for entry in plain if entry.committed}
    candidates = [step for step, why in kept.items() if not why]
    good = _newest_good(plain, is_good) if candidates else None
    entries = [_planned(entry, kept, good) for entry in found]
    newest_good = next((entry.path for entry in found if good is not None and entry.step == good), None)
    return Plan(entries=entries, newest_good=newest_good)


def _newest_good(entries: Sequence[Checkpoint], is_good: Callable[[Path], bool]) -> int | None:
    """Return the newest step that verifies; it stays, asked for or not."""
    for entry in reversed(entries):
        if entry.committed and is_good(entry.path):
            return entry.step
    return None


def _planned(entry: Checkpoint, kept: dict[int, str], good: int | None) -> Planned:
    delete, why = False, kept.get(entry.step, "")
    if entry.path.is_symlink():
        why = "a link: never followed"
    elif not entry.committed:
        why = f"left alone: {entry.state}"
    elif entry.step == good:
        why = f"the newest good one{f', {why}' if why else ''}"
    elif not why and good is None:
        why = "no newer one is good"
    elif not why and good is not None and entry.step > good:
        why = "not good, but newer than the newest good one"
    elif not why and (strange := _strangers(entry.path)):
        why = f"holds {strange[0]}, which its manifest does not name: move that away first"
    elif not why:
        delete, why = True, "older than the newest good one"
    return Planned(path=entry.path, step=entry.step, delete=delete, why=why, bytes=freed_bytes(entry.path))


def _strangers(folder: Path) -> list[str]:
    """Return the files in a step folder that its save did not write, such as a merged model: they are somebody's.

    Links, and files with another name elsewhere, are not among them: deleting the step takes nothing of those away.
    """
    try:
        named = load(folder / MANIFEST_NAME).files
    except (ManifestError, OSError):
        return []  # it counts as committed no more when it is looked at again
    states = ((path, path.lstat()) for path in sorted(folder.rglob("*")))
    alone = (path for path, state in states if stat.S_ISREG(state.st_mode) and state.st_nlink == 1)
    names = (path.relative_to(folder).as_posix() for path in alone)
    return [
        name for name in names if name not in named and name != MANIFEST_NAME and not name.startswith(f"{PRIVATE_DIR}/")
    ]


def freed_bytes(folder: Path) -> int:
    """Return the bytes that deleting `folder` gives back; links are not followed."""
    if folder.is_symlink():
        return 0
    states = (path.lstat() for path in folder.rglob("*"))
    return sum(state.st_size for state in states if stat.S_ISREG(state.st_mode) and state.st_nlink == 1)
