"""Tied parameters: one weight under several names. Example: `lm_head.weight` and `embed_tokens.weight`.

DeepSpeed writes the other names into `shared_params`, from rank 0 only, by where the weights lie in memory (0.19.8,
`runtime/engine.py`: `_get_shared_params`). Without ZeRO-3 parameters without elements all lie at address 0, so it
takes them for tied; the module, whose tied tensors are one place in the file, says better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.tensors.source import untied, whole

if TYPE_CHECKING:
    from collections.abc import Collection

    from orz_ckpt.readers.deepspeed.states import ModelState


def in_module(model: ModelState, owned: Collection[str] = ()) -> dict[str, str]:
    """Return the other names of weights of a whole module -> the name that the optimizer knows, else the first."""
    parameters = {name: block for name, block in (model.module or {}).items() if name not in model.buffer_names}
    first_of = untied({name: whole(name, block) for name, block in parameters.items()})[1]
    aliases: dict[str, str] = {}
    for first in dict.fromkeys(first_of.values()):
        names = [first, *(name for name, other in first_of.items() if other == first)]
        known = next((name for name in names if name in owned), first)
        aliases |= {name: known for name in names if name != known}
    return aliases


def as_stated(model: ModelState, owned: Collection[str]) -> dict[str, str]:
    """Return the other names that the file states, of weights that the optimizer knows or that are frozen."""
    known = {*owned, *model.frozen_shapes}
    return {alias: name for alias, name in model.shared.items() if name in known and alias not in known}
