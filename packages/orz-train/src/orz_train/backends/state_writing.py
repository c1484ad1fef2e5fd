"""How a process writes its part of the state that a resume needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from orz_ckpt.disk.hashed_writing import hashed
from orz_ckpt.manifest import FileEntry


def write_state(state: dict[str, Any], path: Path) -> dict[str, FileEntry]:
    """Write tensors and plain values with `torch.save`, hashed meanwhile; its bytes are on the disk then.

    Args:
        state: what to write.
        path: of the file, in the folder of states of a step folder.

    Returns:
        The file, by its path relative to the step folder.

    Raises:
        OSError: the disk refuses; torch by itself would say that something else went wrong.
    """
    with hashed(path) as file:
        torch.save(state, file)
    return {f"{path.parent.name}/{path.name}": file.entry()}
