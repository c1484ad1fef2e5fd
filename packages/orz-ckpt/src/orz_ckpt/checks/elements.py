"""Have the weights of a model elements: while ZeRO-3 has spread one over ranks, each rank holds `torch.empty(0)`.

Whoever saves the model then, and does not gather it, saves those (DeepSpeed 0.19.8,
`runtime/zero/partition_parameters.py`: `free_param`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.cast import CASTABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Tensor
    from orz_ckpt.tensors.source import SourceTensor


def check_elements(path: Path, tensors: Collection[Tensor | SourceTensor]) -> Iterator[CkptFinding]:
    """Say which weights have none, in one finding: they have one cause. Other states may be empty, as of a quantiser.

    Args:
        path: of the file or the model that holds them.
        tensors: all that it holds.
    """
    empty = [tensor for tensor in tensors if tensor.shape and not tensor.nbytes and tensor.dtype in CASTABLE]
    if empty:
        message = f"{len(empty)} of {len(tensors)} tensors have no elements, such as {brief(empty[0].name)}"
        remedy = "gather the weights when saving, or merge them from the shards of the ranks"
        yield finding("tensor_empty", message, remedy=remedy, path=path, tensor=empty[0].name)
