"""Numbers of tensors with gaps between them, such as a slice of columns: looked at through their strides.

torch saves the whole storage behind a slice. What lies in the gaps is no number of the tensor and is not looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.reading import Numbers, look
from orz_ckpt.memory import memory_for
from orz_ckpt.tensors.floats import FLOATS
from orz_ckpt.tensors.gather import Files, Gatherer
from orz_ckpt.tensors.source import Block, whole
from orz_ckpt.tensors.statistics import SUMMED, Statistics, Summing

if TYPE_CHECKING:
    from orz_ckpt.formats.torch_contents import TorchContents
    from orz_ckpt.watch import Progress

_PIECE_BYTES: Final = 2 * 1024 * 1024


def look_at_strided(
    contents: TorchContents, progress: Progress, *, statistics: bool
) -> tuple[dict[str, Numbers], dict[str, Statistics]]:
    """Return what the numbers of each of `contents.scattered` look like, by its key; a repeated one counts once.

    Args:
        contents: of a torch file.
        progress: told of the bytes of these numbers, which come on top of those of the file.
        statistics: take those, too.

    Raises:
        OSError: the file cannot be read, or changed.
    """
    numbers: dict[str, Numbers] = {}
    summed: dict[str, Statistics] = {}
    with Files() as files:
        gatherer = Gatherer(files)
        for key, (name, block) in contents.scattered.items():
            if block.dtype not in FLOATS:
                continue
            tensor = whole(name, once(block))
            progress.add_total(tensor.nbytes)
            numbers[key] = Numbers()
            summing = Summing(block.dtype) if statistics and block.dtype in SUMMED else None
            step = _PIECE_BYTES // block.itemsize
            with memory_for(block.path):
                buffer = memoryview(bytearray(min(tensor.nbytes, _PIECE_BYTES)))
                for begin in range(0, tensor.numel, step):
                    end = min(begin + step, tensor.numel)
                    data = buffer[: (end - begin) * block.itemsize]
                    gatherer.read(tensor, begin, end, data)
                    look(numbers[key], data, block.dtype, begin * block.itemsize)
                    if summing:
                        summing.update(data)
                    progress.advance(len(data))
            if summing:
                summed[key] = summing.finish()
    return numbers, summed


def once(block: Block) -> Block:
    """Return a block without the dimensions along which it repeats its elements; they stay, of size 1."""
    sizes = zip(block.shape, block.strides, strict=True)
    return replace(block, shape=tuple(min(size, 1) if not stride else size for size, stride in sizes))
