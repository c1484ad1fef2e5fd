"""Settings of a model's configuration that training switches off, and that a saved folder has again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

_OFF: Mapping[str, float | bool] = {
    **dict.fromkeys(("attention_dropout", "attn_pdrop", "hidden_dropout", "resid_pdrop", "embd_pdrop"), 0.0),
    "use_cache": False,
}
"""Settings of a model's configuration while it is trained."""
_SWITCHED_OFF = "orz_switched_off"
"""Attribute of a model: those settings as its folder has them."""


def switch_off(model: Any) -> nn.Module:
    """Switch every source of randomness off, and the cache: two passes over the same tokens agree.

    Returns:
        The model itself, in eval mode; what its configuration had is kept for `restored_config`.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    setattr(model, _SWITCHED_OFF, {name: getattr(model.config, name) for name in _OFF if hasattr(model.config, name)})
    for name in getattr(model, _SWITCHED_OFF):
        setattr(model.config, name, _OFF[name])
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    switched_off: nn.Module = model.eval()
    return switched_off


def restored_config(model: Any) -> Any:
    """Return a copy of the configuration with what `switch_off` has switched off; the model itself stays as it is."""
    config = copy.deepcopy(model.config)
    for name, value in getattr(model, _SWITCHED_OFF, {}).items():
        setattr(config, name, value)
    return config
