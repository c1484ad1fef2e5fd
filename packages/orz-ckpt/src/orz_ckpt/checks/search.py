"""Numbers of a file that is read in pieces, searched for NaN and infinity as the pieces come."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orz_ckpt.tensors.floats import FLOATS, largest_magnitude

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_ckpt.checks.content import Job

_KEPT_BYTES = 8
"""Of the widest number: what a piece leaves for the next one, where a number lies across both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """Numbers of one type, one behind the other."""

    tensor: str
    begin: int
    """First byte, from the start of the file."""
    end: int
    dtype: str
    """A key of `floats.FLOATS`."""


def stretches_of(job: Job) -> list[Stretch]:
    """Return the numbers of a file that can be searched, in file order, by the names of the model's tensors."""
    contents = job.header or job.torch
    found = [
        Stretch(tensor=_name(job, tensor.name), begin=tensor.offset, end=tensor.end, dtype=tensor.dtype)
        for tensor in (contents.tensors if contents else ())
        if tensor.dtype in FLOATS
    ]
    return sorted(found, key=lambda stretch: stretch.begin)


def within(stretches: Sequence[Stretch], begin: int, end: int) -> tuple[Stretch, ...]:
    """Return those of `stretches`, which do not overlap, that have bytes from `begin` to `end`."""
    first = bisect_right(stretches, begin, key=lambda stretch: stretch.end)
    last = bisect_right(stretches, end - 1, key=lambda stretch: stretch.begin)
    return tuple(stretches[first:last])


class Search:
    """Searches bytes that come one behind the other.

    Args:
        stretches: where numbers lie.
        begin: where in the file the first byte lies; a number that begins before it is not looked at.
    """

    def __init__(self, stretches: Sequence[Stretch], begin: int) -> None:
        self._stretches, self._begin, self._kept = stretches, begin, b""
        self.bad: dict[str, None] = {}
        """Names of tensors that hold NaN or infinity, in file order."""

    def update(self, data: memoryview) -> None:
        """Search the next bytes."""
        begin = self._begin - len(self._kept)
        end = self._begin + len(data)
        for stretch in self._stretches:
            width = FLOATS[stretch.dtype].nbytes
            # Whole numbers alone: those that the last piece searched are looked at again, which harms nothing.
            start = stretch.begin + max(0, -(-(begin - stretch.begin) // width)) * width
            stop = stretch.begin + (min(end, stretch.end) - stretch.begin) // width * width
            seam = min(stop, start + -(-max(0, self._begin - start) // width) * width)
            joined = memoryview(self._kept + bytes(data[:_KEPT_BYTES]))
            self._look(stretch, joined[start - begin : seam - begin])
            self._look(stretch, data[seam - self._begin : max(stop, seam) - self._begin])
        self._kept = (self._kept + bytes(data[-_KEPT_BYTES:]))[-_KEPT_BYTES:]
        self._begin = end

    def _look(self, stretch: Stretch, data: memoryview) -> None:
        kind = FLOATS[stretch.dtype]
        if len(data) and largest_magnitude(data, kind) >= kind.nonfinite:
            self.bad[stretch.tensor] = None


def _name(job: Job, key: str) -> str:
    """Return the model's name of what lies under a key of a file's contents."""
    if key in job.parts:
        return job.parts[key][0].name
    return job.torch.views[key][0][0] if job.torch and not job.header else key
