"""Are the numbers that a merge writes numbers: NaN and infinity, and weights that are nothing but zeros.

Both are told from what passes through memory anyway. They are warnings where the source has them: a merge changes no
number, and those of the model are what was asked for. Where a number became infinity because the type that was asked
for has none so large, it is the merge that would break a sound model: an error. To tell the two apart, a tensor with
infinity in it is read once more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.reading import read_once
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.safetensors import read_header
from orz_ckpt.quoting import brief
from orz_ckpt.report.words import count
from orz_ckpt.tensors.cast import LARGEST, TORCH_NAMES, Caster
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.floats import FLOATS, holds_infinity, largest_magnitude, nonfinite_positions
from orz_ckpt.tensors.gather import Files, Gatherer
from orz_ckpt.tensors.low_rank import Adder
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.merge.chunks import Part
    from orz_ckpt.merge.plan import Plan, PlannedTensor

_OLDER: Final = "merge an older checkpoint; look at the losses and gradient norms before this step"
_WIDER: Final = {"F16": "--dtype bfloat16, whose largest number is that of float32", "BF16": "--dtype float32"}
"""What to ask for instead of a type."""
_MAX_NAMED: Final = 3
_STEP: Final = 256 * 1024
"""Numbers that are read again at once."""
_FIRST_BYTES: Final = 4096
"""Of a part: hardly any weight has nothing but zeros in them."""


class WrittenNumbers:
    """What the numbers of one merge look like.

    Args:
        plan: what is written.
        source: where it comes from.
    """

    def __init__(self, plan: Plan, source: Path) -> None:
        self._plan, self._source = plan, source
        self._nonfinite: set[str] = set()
        self._infinite: set[str] = set()
        """Those that may hold infinity, of a type that not all numbers of the source fit."""
        self._matrices = {
            tensor.name for tensor in plan.tensors if len(tensor.shape) > 1 and tensor.nbytes and tensor.dtype in FLOATS
        }
        self._all_zero = bool(self._matrices)
        """Whether no weight of two dimensions or more had another number so far."""

    def look(self, part: Part, data: memoryview, finite: bool) -> None:  # noqa: FBT001  of a callback
        """Look at what is written; any thread may call it.

        Args:
            part: of which tensor it is.
            data: its bytes.
            finite: whether it is known to hold no NaN and no infinity.
        """
        kind = FLOATS.get(part.tensor.dtype)
        if kind is None:
            return
        if self._all_zero and part.tensor.name in self._matrices:
            seen = largest_magnitude(data[:_FIRST_BYTES], kind) or largest_magnitude(data, kind)
            if seen:  # once it is so, it stays: several threads say it
                self._all_zero = False
        if not finite and largest_magnitude(data, kind) >= kind.nonfinite:
            self._nonfinite.add(part.tensor.name)
            if _narrows(part.tensor) and holds_infinity(data, kind):
                self._infinite.add(part.tensor.name)

    def look_again(self, file: Path, digest: str) -> bool:
        """Look at a file that an earlier run of this merge has written.

        Args:
            file: it is whole, as far as its size says.
            digest: what its blake3 was.

        Returns:
            Whether it still is; of another one no number counts.

        Raises:
            OSError: it cannot be read.
        """
        try:
            reading = read_once(file, read_header(file), numbers=True)
        except FormatError:
            return False
        if reading.digest != digest:
            return False
        tensors = {tensor.name: tensor for tensor in self._plan.tensors}
        nonfinite = {name for name, found in reading.numbers.items() if found.nonfinite}
        self._nonfinite |= nonfinite
        self._infinite |= {name for name in nonfinite if _narrows(tensors[name])}
        if any(found.largest for name, found in reading.numbers.items() if name in self._matrices):
            self._all_zero = False
        return True

    def findings(self) -> list[CkptFinding]:
        """Say what was seen; call it once everything is written.

        Raises:
            OSError: a tensor with infinity in it cannot be read again.
        """
        tensors = [tensor for tensor in self._plan.tensors if tensor.name in self._nonfinite]
        with Files() as files:
            counts = {tensor.name: _counts(tensor, files) for tensor in tensors if tensor.name in self._infinite}
        sound = {name for name, (own, _) in counts.items() if not own}
        warned = [*_not_finite([tensor for tensor in tensors if tensor.name not in sound]), *self._zeros()]
        lost = [(tensor, number) for tensor in tensors if (number := counts.get(tensor.name, (0, 0))[1])]
        return [*_overflows(lost), *(replace(entry, severity=Severity.WARN) for entry in warned)]

    def _zeros(self) -> Iterator[CkptFinding]:
        """Say whether nothing but zeros was in the weights: what a writer of empty buffers leaves."""
        if self._all_zero:
            message = f"all {len(self._matrices)} weights are zero: nothing was copied into what was saved"
            remedy = "save the model again, or merge another"
            yield finding("all_zero_model", message, remedy=remedy, path=self._source)


def _narrows(tensor: PlannedTensor) -> bool:
    """Return whether the source may have numbers that the type that is written has none for."""
    return LARGEST.get(_read_as(tensor), 0.0) > LARGEST.get(tensor.dtype, 0.0)


def _read_as(tensor: PlannedTensor) -> str:
    """Return the type of the numbers before they are cast: a sum is made in float32."""
    return tensor.source.dtype if tensor.source.plus is None else "F32"


def _counts(tensor: PlannedTensor, files: Files) -> tuple[int, int]:
    """Return how many numbers of the source are NaN or Inf, and how many others become Inf.

    Raises:
        OSError: a file cannot be read.
    """
    gatherer, caster, wide = Gatherer(files), Caster(), _read_as(tensor)
    adder = Adder(gatherer, caster)
    own = written = 0
    for begin in range(0, tensor.source.numel, _STEP):
        end = min(begin + _STEP, tensor.source.numel)
        numbers, cast = (
            memoryview(bytearray((end - begin) * DTYPE_BITS[dtype] // 8)) for dtype in (wide, tensor.dtype)
        )
        if tensor.source.plus is None:
            gatherer.read(tensor.source, begin, end, numbers)
        else:
            adder.read(tensor.source, begin, end, numbers, wide)
        caster.cast(numbers, wide, cast, tensor.dtype)
        own += len(nonfinite_positions(numbers, FLOATS[wide]))
        written += len(nonfinite_positions(cast, FLOATS[tensor.dtype]))
    return own, written - own


def _not_finite(tensors: Sequence[PlannedTensor]) -> Iterator[CkptFinding]:
    """Say which tensors hold NaN or infinity."""
    for tensor in tensors[:_MAX_NAMED]:
        message = f"{brief(tensor.name)} holds NaN or Inf"
        yield finding("not_finite", message, remedy=_OLDER, path=_path(tensor), tensor=tensor.name)
    if len(tensors) > _MAX_NAMED:
        message = f"and {len(tensors) - _MAX_NAMED} more tensors hold NaN or Inf"
        yield finding("not_finite", message, remedy=_OLDER, path=_path(tensors[_MAX_NAMED]))


def _overflows(lost: Sequence[tuple[PlannedTensor, int]]) -> Iterator[CkptFinding]:
    """Say which tensors have numbers, so many, that are too large for the type that they are to be written in."""
    for tensor, number in lost[:_MAX_NAMED]:
        numbers = f"{count(number, 'number')} {'does' if number == 1 else 'do'} not fit"
        kind = f"{TORCH_NAMES[tensor.dtype]} (max {LARGEST[tensor.dtype]:g})"
        message = f"{brief(tensor.name)}: {numbers} {kind} and would be written as Inf"
        remedy = _WIDER.get(tensor.dtype, "--dtype keep")
        yield finding("number_overflows", message, remedy=remedy, path=_path(tensor), tensor=tensor.name)
    if len(lost) > _MAX_NAMED:
        tensor = lost[_MAX_NAMED][0]
        message = f"and {len(lost) - _MAX_NAMED} more tensors have numbers that do not fit"
        remedy = _WIDER.get(tensor.dtype, "--dtype keep")
        yield finding("number_overflows", message, remedy=remedy, path=_path(tensor))


def _path(tensor: PlannedTensor) -> Path:
    """Return the first file that holds some of a tensor."""
    return tensor.source.pieces[0].block.path
