"""Stop unless two folders of safetensors hold the same tensors, bit for bit: `python same_tensors.py FOLDER FOLDER`.

It reads with the safetensors library, one tensor at a time, and shares no code with what it judges.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open


def main() -> None:
    """Compare."""
    with ExitStack() as stack:
        ours, theirs = (tensors_in(Path(folder), stack) for folder in sys.argv[1:3])
        if not ours or ours.keys() != theirs.keys():
            raise SystemExit(f"void: the names differ: {sorted(ours.keys() ^ theirs.keys())[:5]}, {len(ours)} of ours")
        for name, file in ours.items():
            one, other = file.get_tensor(name), theirs[name].get_tensor(name)
            if (one.dtype, one.shape) != (other.dtype, other.shape) or not torch.equal(*map(bits, (one, other))):
                raise SystemExit(f"void: {name} differs")
        print(f"{len(ours)} tensors are the same, bit for bit")


def tensors_in(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Return the open file of each tensor, by name."""
    found = {}
    for path in folder.glob("*.safetensors"):
        file = stack.enter_context(safe_open(path, "pt"))
        found.update(dict.fromkeys(file.keys(), file))
    return found


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """View a tensor as bytes, in which a NaN equals itself."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


if __name__ == "__main__":
    main()
