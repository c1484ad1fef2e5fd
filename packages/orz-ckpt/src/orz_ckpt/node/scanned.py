"""What a search for weights found, and what it could not look at."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from orz_ckpt.node.pieces import LocatedPiece
from orz_ckpt.steps import step_named

Cause = Literal["refused", "dead link", "links to files"]
_MAX_TOLD: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Unread:
    """What is there and cannot be looked at, so that weights may be there."""

    path: str
    """Absolute."""
    why: str
    step: int | None = None
    """Of the step folder that it is or lies in, as the names below the run's folder say."""
    cause: Cause = "refused"
    """What would help: other rights, a disk that another node may have, or a command that follows links."""


@dataclass(slots=True)
class Scan:
    """What was found below one folder, and how far the search came."""

    root: str
    pieces: list[LocatedPiece] = field(default_factory=list)
    folders: int = 0
    files: int = 0
    cut: list[str] = field(default_factory=list)
    """Why the search ended early: time, or too much found. Weights may lie where it did not come."""
    left_out: list[str] = field(default_factory=list)
    """What was not looked at on purpose, or may not be: other devices, deep folders, some links, no permission."""
    unread: list[Unread] = field(default_factory=list)
    """What could not be looked at: no permission, or the disk fails."""

    def cut_off(self, why: str) -> None:
        """Note, once, why the search ends early."""
        if why not in self.cut:
            self.cut.append(why)

    def leave_out(self, path: str, why: str) -> None:
        """Note what is not looked at."""
        if len(self.left_out) < _MAX_TOLD:
            self.left_out.append(f"{path}: {why}")

    def could_not_read(self, path: str, why: str, *, cause: Cause = "refused") -> None:
        """Note what could not be looked at, so that weights may be there."""
        self.leave_out(path, why)
        self.unread.append(Unread(path=path, why=why, step=self.step_of(path), cause=cause))

    def step_of(self, path: str) -> int | None:
        """Return the step that the names below the root state: those around it may be of an older run, `iter3/`."""
        return step_named(path.removeprefix(self.root))

    def state(self, step: int | None, paths: Collection[str]) -> None:
        """Give a step to those of some pieces of which no name states one."""
        self.pieces = [
            replace(piece, step=step) if piece.step is None and piece.path in paths else piece for piece in self.pieces
        ]

    def put_newest_first(self) -> None:
        """Sort what could not be looked at by what it may hide, and leave out the rest of very many."""
        self.unread.sort(key=lambda entry: (entry.step is not None, -(entry.step or 0)))
        del self.unread[_MAX_TOLD:]
