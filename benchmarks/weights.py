"""Files of weights to measure on, in BF16, with random and finite numbers.

Written piece by piece with the standard library alone: a program inherits the peak of memory of the one that starts it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Final

_PIECE: Final = 1 << 20
_FINITE: Final = bytes(byte & 0xBF for byte in range(256))
"""Keeps every exponent below that of Inf and NaN."""


def write_weights(path: Path, nbytes: int, shape: tuple[int, int] = (4096, 4096)) -> None:
    """Write about `nbytes` of matrices, at least one."""
    count = max(1, nbytes // (2 * shape[0] * shape[1]))
    source = random.Random(0)  # noqa: S311  a generator of test data
    with path.open("wb") as stream:
        stream.write(header([f"layers.{number}.weight" for number in range(count)], shape))
        remaining = count * 2 * shape[0] * shape[1]
        while remaining:
            piece = source.randbytes(min(_PIECE, remaining)).translate(_FINITE)
            remaining -= stream.write(piece)


def write_shards(folder: Path, count: int, shape: tuple[int, int] = (64, 64)) -> None:
    """Write a model of one small matrix a file, with its index."""
    numbers, weight_map = b"\x80\x3f" * (shape[0] * shape[1]), {}
    for number in range(count):
        name = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        weight_map[f"layers.{number}.weight"] = name
        (folder / name).write_bytes(header([f"layers.{number}.weight"], shape) + numbers)
    index = {"metadata": {"total_size": count * len(numbers)}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def header(names: list[str], shape: tuple[int, int]) -> bytes:
    """Return the header of a safetensors file of BF16 matrices of one shape."""
    one = 2 * shape[0] * shape[1]
    entries = {
        name: {"dtype": "BF16", "shape": list(shape), "data_offsets": [number * one, (number + 1) * one]}
        for number, name in enumerate(names)
    }
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text
