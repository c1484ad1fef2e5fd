"""Do the numbers of weights differ as those of trained ones do: all equal, or one far away from all others?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.cast import CASTABLE, widened
from orz_ckpt.tensors.floats import FLOATS
from orz_ckpt.tensors.names import is_norm
from orz_ckpt.tensors.statistics import TensorStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from orz_ckpt.checks.content import Job
    from orz_ckpt.disk.reading import Reading
    from orz_ckpt.tensors.source import Block

OUTLYING: Final = 1000.0
"""Standard deviations from which on a number counts as an outlier.

Of a billion normal numbers the farthest lies at 6; the few very large weights that trained language models are known
for lie at some tens to a hundred. When the top bit of an exponent flips, a number becomes 2^128 times as large, in fp16
2^16 times: more than this bound wherever it had a 65th of the spread. What smaller bits do looks like training.
"""
_MOST_DIGITS: Final = 1e9
_MATRIX: Final = 2
_MAX_NAMED: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """What tells whether a weight of a model holds one value alone."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    only: int | None
    """The bits that all its numbers have; None where two differ."""
    largest: int
    """The largest magnitude as bits without sign."""

    @property
    def wrong(self) -> bool:
        """Whether it should not: a matrix of one value other than 0 (`all_zero` tells of those), a norm of zeros.

        A norm weight of ones and a bias of zeros are as fresh layers have them.
        """
        if len(self.shape) >= _MATRIX:
            nonzero = 0 < self.largest < FLOATS[self.dtype].nonfinite
            return nonzero and self.only is not None and math.prod(self.shape) > 1
        return is_norm(self.name) and self.largest == 0 and math.prod(self.shape) > 0


def uniform_weights(job: Job, reading: Reading) -> list[Uniform]:
    """Return what is known of each weight in a file of a model that stands for itself."""
    found = []
    for key, (name, shape, dtype) in _named(job).items():
        if key in reading.numbers:
            numbers = reading.numbers[key]
            found.append(Uniform(name=name, shape=shape, dtype=dtype, only=numbers.only, largest=numbers.largest))
    return found


def check_constant(path: Path, weights: Iterable[Uniform]) -> Iterator[CkptFinding]:
    """Say which weights hold one value alone, in a file or in a checkpoint of shards."""
    known = list(weights)
    wrong = [weight for weight in known if weight.wrong]
    if wrong:
        names = ", ".join(f"{brief(weight.name)} ({_value(weight)})" for weight in wrong[:_MAX_NAMED])
        message = f"{len(wrong)} of {len(known)} weights hold one value alone: {names}"
        remedy = "nothing was copied into them, or a fill was never replaced; right only for a layer that begins so"
        yield finding("constant", message, remedy=remedy, path=path, tensor=wrong[0].name)


def statistics_of(job: Job, reading: Reading) -> tuple[TensorStatistics, ...]:
    """Return the statistics of each tensor of a file by the model's name of it, in file order."""
    named = _named(job)
    return tuple(
        TensorStatistics(path=job.path, tensor=named[key][0], dtype=named[key][2], statistics=found)
        for key, found in reading.statistics.items()
    )


def check_outliers(job: Job, reading: Reading) -> Iterator[CkptFinding]:
    """Say which matrices of a model have a number that no training leaves; optimizers' states may have any."""
    for key, (name, shape, _) in _named(job).items():
        found = reading.statistics.get(key)
        is_weight = job.is_model or key in job.parts
        if found is None or not is_weight or len(shape) < _MATRIX or found.outlying <= OUTLYING:
            continue
        apart = "all others are equal" if math.isinf(found.outlying) else f"{_times(found.outlying)} times their spread"
        far = max(found.smallest, found.largest, key=lambda value: abs(value - found.mean))
        message = f"{brief(name)}: {far:.6g} lies far away from the other {found.numel - 1:,} numbers: {apart}"
        remedy = "a flipped bit, or an update that went wrong: compare with an older checkpoint, `orz ckpt diff`"
        yield finding("outlier", message, remedy=remedy, path=job.path, tensor=name)


def _named(job: Job) -> dict[str, tuple[str, tuple[int, ...], str]]:
    """Return name, shape and type of what lies under each key of a file's contents, of a part those of its whole."""
    if job.header:
        found = {tensor.name: (tensor.name, tensor.shape, tensor.dtype) for tensor in job.header.tensors}
    elif job.torch:
        found = {tensor.name: (*_view(job.torch.views[tensor.name]), tensor.dtype) for tensor in job.torch.tensors}
        found |= {key: (*_view((view,)), view[1].dtype) for key, view in job.torch.scattered.items()}
    else:
        found = {}
    return found | {
        key: (tensor.name, tensor.shape, tensor.dtype) for key, (tensor, _) in job.parts.items() if key in found
    }


def _times(value: float) -> str:
    return f"{value:,.0f}" if value < _MOST_DIGITS else f"more than 1e+{math.floor(math.log10(value))}"


def _view(views: tuple[tuple[str, Block], ...]) -> tuple[str, tuple[int, ...]]:
    """Return name and shape of what lies in one stretch of numbers; the shape of fewest dimensions where it is more."""
    return views[0][0], min((block.shape for _, block in views), key=len)


def _value(weight: Uniform) -> str:
    """Return the only value as text."""
    if not weight.largest:
        return "0"
    if weight.only is None or weight.dtype not in CASTABLE:
        return weight.dtype
    data = weight.only.to_bytes(FLOATS[weight.dtype].nbytes, "little")
    return f"{widened(memoryview(data), weight.dtype)[0]:.6g}"
