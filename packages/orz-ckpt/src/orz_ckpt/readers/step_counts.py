"""The counts of steps that optimizers of torch keep: what tells one save from another where weights alone do not."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.plain import open_plain
from orz_ckpt.formats.inert import Inert
from orz_ckpt.strict_json import is_size
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS: Final = {"F32": "<f", "F64": "<d", "I64": "<q", "I32": "<i"}


def whole_number(value: object) -> int | None:
    """Return an integer of at least 0; one that an enumeration wraps counts, too."""
    if isinstance(value, Inert) and len(value.args) == 1:
        value = value.args[0]
    return value if is_size(value) else None


def count_of(value: object) -> int | None:
    """Return a count that is a number, or a tensor with one number, which is read; None of anything else.

    Raises:
        OSError: the file of the tensor cannot be read.
    """
    if not isinstance(value, Block):
        return whole_number(value)
    if value.numel != 1 or value.dtype not in _NUMBERS:
        return None
    with open_plain(value.path) as stream:
        stream.seek(value.offset)
        data = stream.read(value.itemsize)
    if len(data) < value.itemsize:
        return None
    number = struct.unpack(_NUMBERS[value.dtype], data)[0]
    return int(number) if 0 <= number < 2**63 else None


def optimizer_step(state: object) -> int | None:
    """Return the most steps that any parameter of an optimizer's `state_dict` took; None where it counts none.

    Args:
        state: the dictionary with `state` and `param_groups`, or a list of such of older versions of DeepSpeed.

    Raises:
        OSError: a count is a tensor, and its file cannot be read.
    """
    counts = [count for place in _places(state) if (count := count_of(place)) is not None]
    return max(counts, default=None)


def _places(state: object) -> Iterator[object]:
    """Yield what may be a count: adam keeps one a parameter, apex and DeepSpeed's fused kernels one a group."""
    if isinstance(state, dict):
        per_parameter = state.get("state")
        groups = state.get("param_groups")
        inner: list[object] = list(per_parameter.values()) if isinstance(per_parameter, dict) else []
        inner += groups if isinstance(groups, (list, tuple)) else []
    else:
        inner = list(state) if isinstance(state, (list, tuple)) else []
    for place in inner:
        if isinstance(place, dict):
            yield place.get("step")
