"""The health rules: one a file, each a pure function of a run."""

from __future__ import annotations

from typing import Final

from orz_monitor.rules import (
    crash,
    damaged_records,
    entropy_fast,
    entropy_high,
    entropy_low,
    explained_variance,
    kl_drift,
    kl_old,
    kl_spike,
    length_collapse,
    length_growth,
    mismatch,
    nonfinite,
    reward_drop,
    reward_floor,
    reward_unscored,
    skipped_updates,
    slow_step,
    stall,
    truncation,
    zero_variance,
)
from orz_monitor.rules.base import Rule

RULES: Final[tuple[Rule, ...]] = (
    crash.RULE,
    stall.RULE,
    reward_unscored.RULE,
    nonfinite.RULE,
    skipped_updates.RULE,
    reward_floor.RULE,
    reward_drop.RULE,
    zero_variance.RULE,
    entropy_low.RULE,
    entropy_fast.RULE,
    entropy_high.RULE,
    kl_drift.RULE,
    kl_spike.RULE,
    kl_old.RULE,
    truncation.RULE,
    length_growth.RULE,
    length_collapse.RULE,
    mismatch.RULE,
    explained_variance.RULE,
    slow_step.RULE,
    damaged_records.RULE,
)
"""Every rule, in the order in which findings of equal severity are shown: what explains others stands before them."""

__all__ = ["RULES", "Rule"]
