"""A tensor with a product of two thin matrices added: `W + scale * left @ right`, in float32, block by block.

LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1). The sum is rounded once, to the type asked for.
The product is made for fixed blocks of rows, whatever range is asked for: a matrix library may add up in another
order for another number of rows, and the same merge has to write the same bytes, however it is cut.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.source import LowRank, SourceTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from orz_ckpt.tensors.cast import Caster
    from orz_ckpt.tensors.gather import Gatherer

_BLOCK_ELEMENTS: Final = 256 * 1024
"""Of a block of rows; one row where it is longer."""


class Adder:
    """Reads such tensors for one thread; it keeps one second factor, which is as wide as the tensor and thin.

    Args:
        gatherer: reads the numbers.
        caster: casts them.
    """

    def __init__(self, gatherer: Gatherer, caster: Caster) -> None:
        self._gatherer, self._caster = gatherer, caster
        self._kept: tuple[LowRank, NDArray[np.float32]] | None = None

    def read(self, tensor: SourceTensor, begin: int, end: int, out: memoryview, dtype: str) -> None:
        """Read elements `begin` to `end` of the flattened sum into `out`, as numbers of type `dtype`.

        Args:
            tensor: a matrix with something to add; all of floating-point types.
            begin: first element.
            end: the element after the last one.
            out: exactly the bytes of so many numbers of type `dtype`.
            dtype: a name of `cast.CASTABLE`.

        Raises:
            OSError: a file cannot be read, or changed.
        """
        plus = tensor.plus
        if plus is None:
            raise AssertionError(f"{tensor.name}: nothing is added to it")
        base, columns = replace(tensor, plus=None), tensor.shape[1]
        right, rows, itemsize = self._right(plus), max(1, _BLOCK_ELEMENTS // columns), DTYPE_BITS[dtype] // 8
        for block in range(begin // columns // rows * rows, tensor.shape[0], rows):
            first, last = block * columns, min(block + rows, tensor.shape[0]) * columns
            low, high = max(begin, first), min(end, last)
            if low >= high:
                break
            product = self._product(plus, block, last // columns, right)
            numbers = self._wide(base, low, high)
            numbers += product[low - first : high - first]
            into = out[(low - begin) * itemsize : (high - begin) * itemsize]
            self._caster.cast(numbers.data.cast("B"), "F32", into, dtype)

    def _right(self, plus: LowRank) -> NDArray[np.float32]:
        """Return the second factor, whole; a thread mostly asks for the one that it had before."""
        if self._kept is None or self._kept[0] is not plus:
            self._kept = (plus, self._wide(plus.right, 0, plus.right.numel).reshape(plus.right.shape))
        return self._kept[1]

    def _product(self, plus: LowRank, begin: int, end: int, right: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return rows `begin` to `end` of the product, flattened."""
        rank = plus.left.shape[1]
        left = self._wide(plus.left, begin * rank, end * rank).reshape(end - begin, rank)
        product: NDArray[np.float32] = np.matmul(left, right)
        product *= np.float32(plus.scale)
        return product.reshape(-1)

    def _wide(self, tensor: SourceTensor, begin: int, end: int) -> NDArray[np.float32]:
        """Read elements as float32."""
        numbers = np.empty(end - begin, dtype=np.float32)
        data = (
            memoryview(bytearray((end - begin) * (tensor.nbytes // tensor.numel))) if end > begin else memoryview(b"")
        )
        self._gatherer.read(tensor, begin, end, data)
        self._caster.cast(data, tensor.dtype, numbers.data.cast("B"), "F32")
        return numbers
