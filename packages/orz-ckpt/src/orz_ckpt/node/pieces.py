"""What a node may hold of a checkpoint: a folder of weights, or a part of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from orz_ckpt.inventory import CHECKPOINTS_DIR, WEIGHTS_SUFFIXES
from orz_ckpt.manifest import PRIVATE_DIR
from orz_ckpt.node.signatures import DCP_METADATA, DCP_OF_RANK
from orz_ckpt.sources import ROLES
from orz_ckpt.steps import final_name, names_step

STEP: Final = "orz"
"""Kind of a step folder that orz-train wrote."""
_IN_STEPS: Final = frozenset({*ROLES, "huggingface"})
"""Names of folders right in a step, and in those."""
_ANY: Final = ("/*", "adapter_model.*")
"""How names end that stand for any weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocatedPiece:
    """One folder of weights on one node."""

    path: str
    """Absolute."""
    base: str
    """The run's folder there, absolute; other pieces of the run lie below it."""
    kind: str
    """A `signatures.Signature.kind`, or `orz`."""
    step: int | None = None
    files: Mapping[str, int] = field(default_factory=dict)
    """Relative name -> bytes: what belongs to it here."""
    damaged: Mapping[str, int] = field(default_factory=dict)
    """Relative name -> bytes: what is here cut off, or of another size than was saved, and so as good as missing."""
    wants: list[str] | None = None
    """Names that the whole checkpoint has, as far as this node can tell; None if it can't.

    `policy/*`: any weights in that folder; `adapter_model.*`: any whose names begin so; `__1.metadata`: that, or
    `.metadata`, which describes all ranks.
    """
    perhaps_more: bool = False
    """Whether others may belong to it beside `wants`: of ranks or kinds of which nothing here says if there are any."""
    copies: list[list[str]] | None = field(default_factory=list)
    """Lists of `wants` with the same weights: one of each is enough. None where some have, and nothing says which."""
    ranks: list[int] = field(default_factory=list)
    committed: bool | None = None
    """None where this format has no commit, and where a manifest is there that cannot be read."""
    attempt: str = ""
    """Of the save, where a manifest or the folder's name says."""
    in_flight: bool = False
    """Whether its name says that a save is going on, or was cut off."""
    newest: float = 0.0
    """When the last of its files was written, seconds since 1970."""
    inode: int = 0
    """Of the folder: with path, time and files the same, two nodes look at one folder."""
    note: str = ""
    """What else is wrong with it."""
    problem: str = ""
    """Code of the finding that its manifest is, where there is one that cannot be used; `note` says why."""
    by_name: bool = False
    """Whether the run was asked for by another path, and this one has only its last names."""

    @property
    def bytes(self) -> int:
        """Of its files together."""
        return sum(self.files.values())

    @property
    def weights(self) -> bool:
        """Whether it holds some: a step folder may hold records alone."""
        return any(self.kind != STEP or is_weights(name) for name in self.files)

    @property
    def rel(self) -> str:
        """Where it belongs below the run's folder, `/` between parts: a save in flight under its final name."""
        below = self.path.removeprefix(self.base).strip("/")
        head, _, last = below.rpartition("/")
        final = final_name(last)
        return below if final is None else f"{head}/{final}".strip("/")

    @property
    def absent(self) -> list[str]:
        """The files that are not here, whether or not another holds the same weights."""
        return missing_names(self.wants or [], self.files)

    @property
    def missing(self) -> list[str]:
        """Those of which no other that is here holds the same weights."""
        return without_copies(self.absent, self.files, self.copies or [])

    @property
    def complete(self) -> bool | None:
        """Whether it is the whole checkpoint by itself; None where nothing tells."""
        return is_complete(self.wants, self.missing, self.copies, perhaps_more=self.perhaps_more)


def missing_names(wants: list[str], files: Mapping[str, int]) -> list[str]:
    """Return the names of `wants` that `files` do not have."""
    return [name for name in wants if not _there(name, files)]


def without_copies(names: Sequence[str], files: Mapping[str, int], copies: Sequence[Sequence[str]]) -> list[str]:
    """Return those of `names` that no file stands for which holds the same weights.

    Args:
        names: of files that are not there.
        files: that are.
        copies: lists of names with the same weights.
    """
    covered = {name for alike in copies if any(other in files for other in alike) for name in alike}
    return [name for name in names if name not in covered]


def is_complete(
    wants: Sequence[str] | None, missing: Sequence[str], copies: object, *, perhaps_more: bool = False
) -> bool | None:
    """Return whether nothing is missing of what a checkpoint wants; None where nothing tells.

    Args:
        wants: the names of its files.
        missing: those that are neither there nor made up for.
        copies: None where files hold the same weights as others, and nothing says which.
        perhaps_more: whether it may have files beside those.
    """
    if wants is None or (missing and copies is None) or (perhaps_more and not missing):
        return None
    return not missing


def is_weights(name: str) -> bool:
    """Return whether a file of a step folder is one of weights, by its name: none of `state/`, whatever its suffix."""
    return name.endswith(WEIGHTS_SUFFIXES) and name.partition("/")[0] not in {"state", PRIVATE_DIR}


def is_in(path: str, folder: str) -> bool:
    """Return whether a path is that of a folder, or of something in it, by its words alone."""
    return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")


def named_after_run(pieces: Iterable[LocatedPiece]) -> list[LocatedPiece]:
    """Return all pieces of a run; where none has a step, with that of the run's folder, which may be a step itself.

    It may also be a role in a step, such as `global_step_20/actor`.
    """
    pieces = list(pieces)
    if any(piece.step is not None for piece in pieces):
        return pieces
    return [replace(piece, step=_step_of_run(piece.base)) for piece in pieces]


def _step_of_run(base: str) -> int | None:
    names = base.rstrip("/").split("/")
    while names and names[-1] in _IN_STEPS:
        names.pop()
    return names_step(names[-1]) if names else None


def run_folder(path: str) -> str:
    """Return the folder of the run that the piece at `path` belongs to, by names alone."""
    parts = path.rstrip("/").split("/")
    for index, part in enumerate(parts):
        if index > 1 and names_step(part) is not None:
            parts = parts[:index]
            break
    else:
        parts = parts[:-1]
    if len(parts) > 2 and parts[-1] == CHECKPOINTS_DIR:  # noqa: PLR2004  "", the run, checkpoints
        parts = parts[:-1]
    return "/".join(parts) or "/"


def _there(name: str, files: Mapping[str, int]) -> bool:
    if not name.endswith(_ANY):
        return name in files or (DCP_METADATA in files and DCP_OF_RANK.fullmatch(name) is not None)
    begin = name[:-1]
    return any(file.startswith(begin) and file.endswith(WEIGHTS_SUFFIXES) for file in files)
