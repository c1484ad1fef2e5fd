"""Why sampler and trainer drift apart in the course of a run, however that is measured."""

from __future__ import annotations

from typing import Final

from orz_monitor.findings import Cause

CAUSES: Final = (
    Cause(
        what="the sampler's weights fall behind the trainer's, or samples grow older",
        confirm="`sync/version` does not advance with every step, or `staleness/max` grows",
        try_="compare a checksum of the weights on both sides after one synchronisation; allow fewer steps ahead",
    ),
    Cause(
        what="the policy has moved to where half precision is poor, or where experts are routed otherwise",
        confirm="`policy/entropy` or `rollout/response_tokens_mean` moved, too; the gap shrinks with "
        "`policy.dtype=float32`",
        try_="correct with truncated importance weights, capped at 2; or use the same precision on both sides",
    ),
)
"""Likeliest first."""
