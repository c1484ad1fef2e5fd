"""The links to folders that a search of a run meets: which are followed, and which hide weights if they cannot be.

A link is most often another name of what lies elsewhere: of data, of a model to begin from, of the best step. Names
tell those behind which the run's own checkpoints lie; of no other the system is asked, which may hang.
"""
# ruff: noqa: PTH115, PTH116, PTH119, PTH120  paths are text here

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from orz_ckpt.node.pieces import LocatedPiece, is_in
from orz_ckpt.sources import ROLES
from orz_ckpt.steps import around_step, names_folder_of_steps, names_step

_LEADS_NOWHERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_MAX_PASSED: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link that is named as a step, as a role, or, right in the run, as the folder of all its steps."""

    path: str
    depth: int
    """Of folders below the root of the search, as if it were one."""
    kind: Literal["step", "role", "folder_of_steps"]

    @property
    def step(self) -> int | None:
        """The step that its name states."""
        return names_step(os.path.basename(self.path))


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """A link, and where it leads."""

    link: Link
    target: str
    """Without links in it."""
    blocked: str = ""
    """Why it cannot be looked behind; empty if it can."""
    is_dead: bool = False
    """Whether nothing is there, as where a disk is not mounted."""


@dataclass(kw_only=True, slots=True)
class Links:
    """Those of one search."""

    root: str
    """Where it began, without links in it."""
    deadline: float
    """On `time.monotonic`: later, nothing is asked of the system."""
    blocked: list[Followed] = field(default_factory=list)
    """Those that cannot be looked behind."""
    passed: list[tuple[str, str]] = field(default_factory=list)
    """Paths of some of those that are not followed, and why."""
    named: dict[str, Link] = field(default_factory=dict)
    """Folders in what was looked at -> a link to each that states its step; who has dealt with them empties it."""
    _met: list[Link] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    """The root, and what is behind links that were followed."""
    _around: set[str] = field(default_factory=set)
    """The folders around those."""
    _named: set[str] = field(default_factory=set)
    """All that were in `named`."""

    def __post_init__(self) -> None:
        self._see(self.root)

    def meet(self, folder: str, names: Iterable[str], depth: int, *, beside_weights: bool) -> None:
        """Note the links in a folder; beside weights, all but those of steps are other names of what lies elsewhere.

        Args:
            folder: absolute.
            names: of the links right in it, to whatever.
            depth: of what is behind them below the root.
            beside_weights: whether the folder holds some itself.
        """
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            if names_step(name) is not None:
                self._met.append(Link(path=path, depth=depth, kind="step"))
            elif name in ROLES and not beside_weights:
                self._met.append(Link(path=path, depth=depth, kind="role"))
            elif folder == self.root and names_folder_of_steps(name) and not beside_weights:
                self._met.append(Link(path=path, depth=depth, kind="folder_of_steps"))
            else:
                self._pass(path)

    @property
    def left(self) -> bool:
        """Whether links were met that were not looked at yet."""
        return bool(self._met)

    def next_round(self, *, has_steps: bool) -> Iterator[Followed]:
        """Yield those to look behind of the links that were met since the last round, the widest folder first.

        A folder of all steps is followed only where no step is found otherwise.

        Args:
            has_steps: whether weights of a step were found so far.
        """
        for end in sorted(self._ends(has_steps=has_steps), key=_order):
            if end.blocked:
                self.blocked.append(end)
            elif end.target in self._around:
                self._pass(end.link.path, f"a link to {end.target}, which is around what was looked at")
            elif not self._is_seen(end.target):
                self._see(end.target)
                yield end
            elif end.link.kind == "step" and end.target not in self._seen and end.target not in self._named:
                self._named.add(end.target)
                self.named[end.target] = end.link

    def _ends(self, *, has_steps: bool) -> list[Followed]:
        """Return where the links lead that were met since the last round; those to all steps only if needed."""
        met, self._met = self._met, []
        ends = list(self._resolved(link for link in met if link.kind != "folder_of_steps"))
        all_steps = [link for link in met if link.kind == "folder_of_steps"]
        if has_steps or any(end.link.kind == "step" and not end.blocked for end in ends):
            for link in all_steps:
                self._pass(link.path)
        else:
            ends += self._resolved(all_steps)
        return ends

    def _resolved(self, links: Iterable[Link]) -> Iterator[Followed]:
        """Ask the system where links to folders lead; those to files are left out."""
        for link in links:
            if time.monotonic() > self.deadline:
                return
            target = os.path.realpath(link.path)
            try:
                if stat.S_ISDIR(os.stat(link.path).st_mode):
                    os.scandir(link.path).close()  # who may not list it cannot look behind the link
                    yield Followed(link=link, target=target)
            except OSError as error:
                is_dead = error.errno in _LEADS_NOWHERE
                why = f"a link to {target}, which is not there" if is_dead else error.strerror or str(error)
                yield Followed(link=link, target=target, blocked=why, is_dead=is_dead)

    def _pass(self, path: str, why: str = "") -> None:
        if len(self.passed) < _MAX_PASSED:
            self.passed.append((path, why or f"a link to {_said_of(path)}, not followed"))

    def _is_seen(self, target: str) -> bool:
        return not self._seen.isdisjoint((target, *_folders_around(target)))

    def _see(self, target: str) -> None:
        self._seen.add(target)
        self._around.update(_folders_around(target))


def may_hide_newest(link: Link, pieces: Sequence[LocatedPiece]) -> bool:
    """Return whether the newest weights of a run may lie behind a link that cannot be looked behind.

    Args:
        link: the link.
        pieces: what was found of the run.
    """
    folder = os.path.dirname(link.path)
    below = [piece.path.removeprefix(f"{folder}/") for piece in pieces if is_in(piece.path, folder)]
    beside = {path.partition("/")[0] for path in below}
    if link.kind == "role":
        return not beside.isdisjoint(ROLES) or names_step(os.path.basename(folder)) is not None
    if not any(piece.step is not None for piece in pieces):
        return True
    alike = around_step(os.path.basename(link.path))
    return link.kind == "step" and any(around_step(name) == alike for name in beside)


def _order(end: Followed) -> tuple[int, bool, int, str]:
    """Sort the widest folder first, and of the names of one that which states a step."""
    return len(end.target), end.link.kind != "step", end.link.depth, end.link.path


def _folders_around(path: str) -> Iterator[str]:
    while (above := os.path.dirname(path)) != path:
        yield above
        path = above


def _said_of(link: str) -> str:
    """Return what a link says, without asking for what is there."""
    try:
        return os.readlink(link)
    except OSError:
        return "nobody knows where"
