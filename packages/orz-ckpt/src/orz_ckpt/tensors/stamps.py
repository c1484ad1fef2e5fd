"""What shards say of the save that they are of: compared between nodes where they do not lie together.

Weights alone do not say of which step they are. What tells are counts of steps beside them, and numbers that several
ranks hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orz_ckpt.tensors.source import Block


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A part of a tensor, which other ranks may hold, too. Example: a buffer, or rows that HSDP stores twice."""

    block: Block
    place: tuple[int, int, int] | None
    """Checksum and length of the record around it, and where in that it begins; None of files without checksums."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamps:
    """What the shards of a checkpoint say, as far as they are here."""

    shards: tuple[int, ...] = ()
    """Ranks whose weights are here, and sound."""
    counts: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Steps of the weights, by who counts them and rank. Example: `{"optimizer": {0: 300, 1: 300}}`."""
    others: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Steps that other files count, of buffers say. That they agree says nothing of the weights."""
    boxes: Mapping[str, Box] = field(default_factory=dict)
    """By tensor, type, shape and place: each box once."""
