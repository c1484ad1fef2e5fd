"""The links to folders that a search of a run met: which are followed, and which hide weights if they are dead.

As for `verify`, a link is most often another name of what lies elsewhere: of data, of a model to begin from, of the
best step. Names tell those behind which the run's own checkpoints lie; of no other the system is asked, which may hang.
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

from orz_ckpt.node.pieces import LocatedPiece
from orz_ckpt.sources import ROLES
from orz_ckpt.steps import around_step, names_folder_of_steps, names_step

_LEADS_NOWHERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_MAX_OTHERS: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link that is named as a step, as a role, or, right in the run, as the folder of all its steps."""

    path: str
    depth: int
    """Of folders below the root of the search, as if it were one."""
    kind: Literal["step", "role", "steps"]


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """Where a link leads."""

    link: Link
    target: str
    """Without links in it."""
    why_not: str = ""
    """Why it cannot be followed; empty if it can."""
    is_dead: bool = False
    """Whether nothing is there, as where a disk is not mounted."""


@dataclass(kw_only=True, slots=True)
class Links:
    """Those of one search."""

    root: str
    """Where it began."""
    met: list[Link] = field(default_factory=list)
    """Those that are to be looked at, and were not yet."""
    others: list[str] = field(default_factory=list)
    """Paths of some of those that are not."""

    def meet(self, folder: str, names: Iterable[str], depth: int) -> None:
        """Note the links in a folder without weights."""
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            if names_step(name) is not None:
                self.met.append(Link(path=path, depth=depth, kind="step"))
            elif name in ROLES:
                self.met.append(Link(path=path, depth=depth, kind="role"))
            elif folder == self.root and names_folder_of_steps(name):
                self.met.append(Link(path=path, depth=depth, kind="steps"))
            elif len(self.others) < _MAX_OTHERS:
                self.others.append(path)


def ends_of(links: Iterable[Link], *, deadline: float) -> Iterator[End]:
    """Ask the system where links to folders lead, until `deadline` on `time.monotonic`; those to files are left out."""
    for link in links:
        if time.monotonic() > deadline:
            return
        target = os.path.realpath(link.path)
        try:
            if stat.S_ISDIR(os.stat(link.path).st_mode):
                yield End(link=link, target=target)
        except OSError as error:
            is_dead = error.errno in _LEADS_NOWHERE
            why = f"a link to {target}, which is not there" if is_dead else error.strerror or str(error)
            yield End(link=link, target=target, why_not=why, is_dead=is_dead)


def in_order(ends: Iterable[End]) -> list[End]:
    """Return the widest folder first, and of the names of one that which states a step."""
    return sorted(ends, key=lambda end: (len(end.target), end.link.kind != "step", end.link.depth, end.link.path))


def hides(link: Link, pieces: Sequence[LocatedPiece]) -> bool:
    """Return whether the newest weights of a run may lie behind a link that cannot be followed.

    Args:
        link: the link.
        pieces: what was found of the run.
    """
    folder = os.path.dirname(link.path)
    below = [piece.path.removeprefix(f"{folder}/") for piece in pieces if piece.path.startswith(f"{folder}/")]
    if link.kind == "role":
        return bool(below) or names_step(os.path.basename(folder)) is not None
    if not any(piece.step is not None for piece in pieces):
        return True
    alike = around_step(os.path.basename(link.path))
    return link.kind == "step" and any(around_step(path.partition("/")[0]) == alike for path in below)


def leads(link: str) -> str:
    """Return what a link says, without asking for what is there."""
    try:
        return os.readlink(link)
    except OSError:
        return "nobody knows where"


def is_in(path: str, folder: str) -> bool:
    """Return whether a path is that of a folder, or of something in it, by its words alone."""
    return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
