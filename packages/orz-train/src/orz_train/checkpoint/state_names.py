"""The files that only a resume reads: where they lie in a step folder, and how their names say whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

STATE = "state"
"""Folder of a checkpoint that only a resume reads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedBy:
    """One rank of those that a model's state was spread over."""

    rank: int
    num_ranks: int


def process_state(role: str) -> str:
    """Name the state of a model that one process trains, `backend: local`."""
    return f"{role}-optimizer.pt"


def rank_state(role: str, *, rank: int, num_ranks: int) -> str:
    """Name the state of a rank's share of a model."""
    return f"{role}-rank-{rank}-of-{num_ranks}.pt"


def ranks_among(names: Iterable[str], role: str) -> list[SavedBy]:
    """Return the ranks whose state of a model is among the names of a state folder, lowest first."""
    pattern = re.compile(rf"{re.escape(role)}-rank-(\d+)-of-(\d+)\.pt")
    found = [match for name in names if (match := pattern.fullmatch(name))]
    ranks = [SavedBy(rank=int(match[1]), num_ranks=int(match[2])) for match in found]
    return sorted(ranks, key=lambda one: (one.num_ranks, one.rank))


def in_state_folder(files: Iterable[str]) -> set[str]:
    """Return the names in the state folder, of paths relative to the step folder."""
    return {name.removeprefix(f"{STATE}/") for name in files if name.startswith(f"{STATE}/")}
