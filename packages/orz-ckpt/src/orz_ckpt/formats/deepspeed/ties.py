"""Tied parameters: one weight under several names. Example: `lm_head.weight` and `embed_tokens.weight`.

DeepSpeed writes the other names into `shared_params`, from rank 0 only, by where the weights lie in memory (0.19.8,
`runtime/engine.py`: `_get_shared_params`). Without ZeRO-3 parameters without elements all lie at address 0, so it
takes them for tied; the module, whose tied tensors are one place in the file, says better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from orz_ckpt.formats.deepspeed.states import ModelState


def in_module(model: ModelState, owned: Collection[str] = ()) -> dict[str, str]:
    """Return the other names of weights of a whole module -> the name that the optimizer knows, else the first."""
    by_place: dict[object, list[str]] = {}
    for name, block in (model.module or {}).items():
        if block.numel and name not in model.buffer_names:
            by_place.setdefault((block.offset, block.dtype, block.shape, block.strides), []).append(name)
    aliases: dict[str, str] = {}
    for names in by_place.values():
        known = next((name for name in names if name in owned), names[0])
        aliases |= {name: known for name in names if name != known}
    return aliases


def as_stated(model: ModelState, owned: Collection[str]) -> dict[str, str]:
    """Return the other names that the file states, of weights that the optimizer knows or that are frozen."""
    known = {*owned, *model.frozen_shapes}
    return {alias: name for alias, name in model.shared.items() if name in known and alias not in known}
