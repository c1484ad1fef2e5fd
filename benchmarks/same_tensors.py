"""Stop unless two folders of safetensors hold the same tensors, bit for bit: `python same_tensors.py FOLDER FOLDER`.

It reads with the safetensors library, one tensor at a time, and shares no code with what it judges.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import safe_open


def main() -> None:
    """Compare."""
    with ExitStack() as stack:
        ours, theirs = ({}, {})
        for folder, found in zip(sys.argv[1:3], (ours, theirs), strict=True):
            for path in Path(folder).glob("*.safetensors"):
                file = stack.enter_context(safe_open(path, "pt"))
                found |= dict.fromkeys(file.keys(), file)
        if not ours or ours.keys() != theirs.keys():
            raise SystemExit(f"void: the names differ: {sorted(ours.keys() ^ theirs.keys())[:5]}, {len(ours)} of ours")
        for name in ours:
            one, other = ours[name].get_tensor(name), theirs[name].get_tensor(name)
            if (one.dtype, one.shape) != (other.dtype, other.shape) or not torch.equal(*map(bits, (one, other))):
                raise SystemExit(f"void: {name} differs")
        print(f"{len(ours)} tensors are the same, bit for bit")


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """View a tensor as bytes, in which a NaN equals itself."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


if __name__ == "__main__":
    main()
