"""How large the policy is, and whether all of it is trained, as far as the settings of a run tell."""

from __future__ import annotations

import re
from typing import Final

from orz_monitor.frameworks import setting_of
from orz_monitor.run import Run

_IN_NAME: Final = re.compile(r"(?<![\w.])(?P<billions>\d{1,4}(?:\.\d{1,3})?)[bB](?![A-Za-z])")
_NUM_PARAMETERS: Final = "model/num_parameters"
"""Where transformers writes the number of parameters for W&B."""
_ADAPTER: Final = re.compile(r"(?:^|[._])(?:lora_r(?:ank)?|peft_config|use_peft)\b")
_NONE: Final = frozenset({"", "0", "none", "null", "false"})


def billions(run: Run) -> float | None:
    """Return the parameters of the policy in billions, by what is logged or by the model's name; None if unknown.

    Example:
        A model called `Qwen/Qwen2.5-7B` has 7.
    """
    counted = run.settings.get(_NUM_PARAMETERS, "")
    if counted.isdecimal():
        return int(counted) / 1e9
    name = setting_of(run, "policy.model").rstrip("/").rpartition("/")[2]
    match = _IN_NAME.search(name)
    return float(match["billions"]) if match is not None else None


def is_adapted(run: Run) -> bool:
    """Tell whether the settings say that an adapter is trained, and not the whole model."""
    return any(_ADAPTER.search(name) and value.lower() not in _NONE for name, value in run.settings.items())
