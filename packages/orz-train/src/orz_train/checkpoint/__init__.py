"""Checkpoints of a run: models as Hugging Face folders, state for a resume, committed as one.

`RunCheckpoints` writes them, `starting_point` finds the one to go on from, `check_storage` and `check_copies` look
at the disks and at the place for copies before a run depends on them.
"""

from __future__ import annotations

from orz_train.checkpoint.copy_preflight import check_copies
from orz_train.checkpoint.nodes import OneNode
from orz_train.checkpoint.parts_needed import require_parts
from orz_train.checkpoint.preflight import check_storage
from orz_train.checkpoint.resume import ResumePoint, require_whole, resume_point, starting_point
from orz_train.checkpoint.state_names import STATE
from orz_train.checkpoint.store import RunCheckpoints

__all__ = [
    "STATE",
    "OneNode",
    "ResumePoint",
    "RunCheckpoints",
    "check_copies",
    "check_storage",
    "require_parts",
    "require_whole",
    "resume_point",
    "starting_point",
]
