"""How a process writes its part of the state that a resume needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from orz_ckpt.disk.writing import written


def write_state(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values with `torch.save`.

    Raises:
        OSError: the disk refuses; torch by itself would say that something else went wrong.
    """
    with written(path) as file:
        torch.save(state, file)
