"""Reward functions by name: the shipped ones, and a user's `module:function`."""

from __future__ import annotations

import difflib
import importlib
from typing import cast

from orz_train.config import plugins
from orz_train.errors import ConfigError
from orz_train.rewards.base import RewardFunction, check_reward_signature

SHIPPED = {
    "math": "orz_train.rewards.math.functions",
    "boxed": "orz_train.rewards.math.functions",
    "exact": "orz_train.rewards.exact",
}
"""Name of each shipped reward function, and the module that defines it under that name."""


def load_reward(name: str) -> RewardFunction:
    """Import a reward function: a shipped one by name, or the user's by `module:function`.

    Modules in the current folder are found, as with `python -m`.

    Raises:
        ConfigError: there is no such function, importing it failed, or it doesn't take (prompt, rollout).
    """
    if plugins.is_plugin(name):
        function = plugins.resolve(name, key="reward.function")
        check_reward_signature(function, name=f"reward.function: {name}")
        return cast("RewardFunction", function)
    if name not in SHIPPED:
        near = difflib.get_close_matches(name, SHIPPED, n=1)
        raise ConfigError(
            f"reward.function: got {name!r}, expected one of {', '.join(SHIPPED)}, or module:function",
            remedy=f"did you mean {near[0]!r}?" if near else "such as my_rewards:reward for my_rewards.py",
        )
    return cast("RewardFunction", getattr(importlib.import_module(SHIPPED[name]), name))
