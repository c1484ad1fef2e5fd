"""The links to folders that a search met: which of them are to be followed, and in what order."""
# ruff: noqa: PTH112  paths are text here

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link to a folder."""

    path: str
    target: str
    """Where it leads in the end."""
    depth: int
    """Of folders below the root of the search, as if it were one."""


class Links:
    """Those of one search that are yet to be followed.

    The widest folder comes first: what lies in two of them is found once, and has its name from that one.

    Args:
        root: where the search began.
    """

    def __init__(self, root: Path) -> None:
        self._seen = [os.path.realpath(root)]
        self._waiting: list[Link] = []

    def add(self, path: str, depth: int) -> str:
        """Note a link if it leads to a folder; return where it leads if nothing is there, else an empty text."""
        target = os.path.realpath(path)
        if os.path.isdir(target):
            self._waiting.append(Link(path=path, target=target, depth=depth))
        return "" if os.path.lexists(target) else target

    def take(self) -> Link | None:
        """Return the next one that leads to what was not looked at yet, None where there is none.

        One that leads to a folder around what was looked at is none: it would be found again below it.
        """
        while self._waiting:
            link = min(self._waiting, key=lambda link: len(link.target))
            self._waiting.remove(link)
            if not any(_is_in(link.target, seen) or _is_in(seen, link.target) for seen in self._seen):
                self._seen.append(link.target)
                return link
        return None


def _is_in(path: str, folder: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
