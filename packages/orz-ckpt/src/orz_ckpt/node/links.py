"""The links to folders that a search met: which of them are to be followed, and in what order."""
# ruff: noqa: PTH116  paths are text here

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from orz_ckpt.inventory import WEIGHTS_SUFFIXES
from orz_ckpt.sources import ROLES
from orz_ckpt.steps import around_step, names_folder_of_steps, names_step

_LEADS_NOWHERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link to a folder."""

    path: str
    target: str
    """Where it leads in the end."""
    depth: int
    """Of folders below the root of the search, as if it were one."""

    @property
    def order(self) -> tuple[int, bool, int, str]:
        """What comes first: the widest folder, and of its names one that states a step."""
        return len(self.target), names_step(PurePosixPath(self.path).name) is None, self.depth, self.path


class Links:
    """Those of one search that are yet to be followed: what lies in two of them is found once, in the wider one.

    Args:
        root: where the search began.
    """

    def __init__(self, root: Path) -> None:
        self._waiting: list[tuple[tuple[int, bool, int, str], Link]] = []
        self._seen: set[str] = set()
        self._around: set[str] = set()
        self._see(os.path.realpath(root))

    def meet(
        self, folder: str, names: Sequence[str], steps: Collection[tuple[str, str] | None], depth: int
    ) -> Iterator[tuple[str, str | OSError, bool]]:
        """Note which links are to be followed: by their names to steps or roles, or to a folder of checkpoints.

        Args:
            folder: where they lie.
            names: theirs.
            steps: what stands around the number in the names of the folders of steps beside them.
            depth: of what they lead to.

        Yields:
            Each link to what is not to be looked at, why, and whether it is a dead one that may hide the newest step:
            so it is where it has a name like the steps beside it, or that of what holds them.
        """
        for name in names:
            link = f"{folder.rstrip('/')}/{name}"
            holds_steps = not steps and names_folder_of_steps(name)
            try:
                mode = os.stat(link).st_mode
            except OSError as error:
                if error.errno in _LEADS_NOWHERE:
                    why = f"a link to {os.path.realpath(link)}, which is not there"
                    yield link, why, holds_steps or around_step(name) in steps
                else:
                    yield link, error, False
                continue
            if stat.S_ISDIR(mode) and (holds_steps or names_step(name) is not None or name in ROLES):
                waiting = Link(path=link, target=os.path.realpath(link), depth=depth)
                heapq.heappush(self._waiting, (waiting.order, waiting))
            elif stat.S_ISDIR(mode) or name.endswith(WEIGHTS_SUFFIXES):
                yield link, "a link, not followed", False

    def take(self) -> tuple[Link, bool] | None:
        """Return the next one that leads to what was not looked at yet, None where there is none.

        Beside it stands whether it leads around what was looked at: to be left out, or that would be found again.
        """
        while self._waiting:
            _, link = heapq.heappop(self._waiting)
            if link.target in self._around:
                return link, True
            if self._seen.isdisjoint(_with_parents(link.target)):
                self._see(link.target)
                return link, False
        return None

    def _see(self, folder: str) -> None:
        self._seen.add(folder)
        self._around |= set(_with_parents(folder)) - self._seen


def _with_parents(folder: str) -> list[str]:
    return [folder, *map(str, PurePosixPath(folder).parents)]
