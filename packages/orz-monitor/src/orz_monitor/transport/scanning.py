"""The inner loops of reading, compiled: `scan.c`, by way of ctypes.

A C compiler makes a library of it when the package is built. Where there was none, `SCANNER` is None, and who would
call it reads with numpy and regular expressions instead: the same, and more slowly.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import ctypes

SOURCE_FILE: Final = Path(__file__).with_name("scan.c")
LIBRARY_FILE: Final = Path(__file__).with_name("scan.compiled")
SWITCH: Final = "ORZ_MONITOR_SCANNER"
"""A variable of the environment: `off` reads as if there were no library."""
_OFF: Final = frozenset({"off", "0", "no", "false"})
_USUAL_DISTANCE: Final = 64
"""Bytes between two places that are looked for; where they are closer, all is looked through twice."""
_UNSURE: Final = -2

_SIGNATURES: Final = {
    "scan_byte": ("count", "text", "count", "byte", "array", "count"),
    "scan_piece": ("count", "text", "count", "text", "count", "count", "count", "array", "count"),
    "scan_template": (
        *("nothing", "text", "count", "text", "count", "array", "count"),
        *("array", "array", "count", "array", "count"),
    ),
    "scan_repeats": ("nothing", "text", "array", "array", "count", "array"),
    "scan_join": ("nothing", "text", "array", "array", "count", "array"),
}
"""What each function of scan.c returns, and takes."""


class Fits(NamedTuple):
    """What a template found at M places, with K numbers and S gaps.

    Attributes:
        ends: behind what fits, -1 where it does not, [M].
        values: of its numbers, [M, K]; of no meaning where it does not fit.
        spans: where its gaps begin and end, [M, S, 2]; likewise.
    """

    ends: NDArray[np.int64]
    values: NDArray[np.float64]
    spans: NDArray[np.int64]


class Scanner:
    """Calls the library.

    Args:
        library: as `load_library` returns it.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def places(self, text: bytes, piece: bytes, rare: Sequence[int]) -> NDArray[np.int64]:
        """Return where a piece stands.

        Args:
            text: looked through.
            piece: looked for, not empty.
            rare: indices of its bytes, the first two of those that text holds least of.
        """
        count = capacity = 0
        places = np.empty(len(text) // _USUAL_DISTANCE + 1, np.int64)
        while count >= capacity:
            if count:
                places = np.empty(count + 1, np.int64)
            capacity = len(places)
            if len(piece) == 1:
                count = self._library.scan_byte(text, len(text), piece[0], places.ctypes.data, capacity)
            else:
                two = rare[:2]
                count = self._library.scan_piece(text, len(text), piece, len(piece), *two, places.ctypes.data, capacity)
        return places[:count]

    def read(
        self, parts: bytes, text: bytes, starts: NDArray[np.int64], num_values: int, num_spans: int
    ) -> tuple[Fits, NDArray[np.intp]]:
        """Read a template at places of a text, [M].

        Returns:
            What it found; and the indices of those places where it fits, and a value needs more precision than the
            scanner has: these are to be read again.
        """
        count = len(starts)
        starts = np.ascontiguousarray(starts, np.int64)
        fits = Fits(
            ends=np.empty(count, np.int64),
            values=np.empty((count, num_values)),
            spans=np.empty((count, num_spans, 2), np.int64),
        )
        arrays = (array.ctypes.data for array in fits)
        ends, values, spans = arrays
        self._library.scan_template(
            parts, len(parts), text, len(text), starts.ctypes.data, count, ends, values, num_values, spans, num_spans
        )
        return fits, np.flatnonzero(fits.ends == _UNSURE)

    def repeats(self, text: bytes, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell of each piece of a text, [M], whether it has the bytes of the one before; the first has not."""
        repeats = np.empty(len(begins), np.bool_)
        begins, ends = np.ascontiguousarray(begins, np.int64), np.ascontiguousarray(ends, np.int64)
        self._library.scan_repeats(text, begins.ctypes.data, ends.ctypes.data, len(begins), repeats.ctypes.data)
        return repeats

    def joined(self, text: bytes, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> bytes:
        """Return pieces of a text, [M], none of which ends before it begins, one behind the other."""
        joined = np.empty(int((ends - begins).sum()), np.uint8)
        begins, ends = np.ascontiguousarray(begins, np.int64), np.ascontiguousarray(ends, np.int64)
        self._library.scan_join(text, begins.ctypes.data, ends.ctypes.data, len(begins), joined.ctypes.data)
        return joined.tobytes()


def load_library(file: Path) -> ctypes.CDLL:
    """Return the library in a file.

    Raises:
        OSError: there is none for this machine.
        ImportError: this Python can call none.
        AttributeError: it is another library.
        ValueError: it was made of another version of the source.
    """
    import ctypes  # noqa: PLC0415  not every Python has it

    kinds = {
        "nothing": None,
        "count": ctypes.c_int64,
        "byte": ctypes.c_uint8,
        "text": ctypes.c_char_p,
        "array": ctypes.c_void_p,
    }
    library = ctypes.CDLL(str(file))
    library.scan_source.restype = ctypes.c_char_p
    if library.scan_source() != hashlib.sha256(SOURCE_FILE.read_bytes()).hexdigest().encode():
        raise ValueError("it is of another version: install orz-monitor again")
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = kinds[result], [kinds[argument] for argument in arguments]
    return library


def _scanner() -> tuple[Scanner | None, str]:
    """Return the scanner, or why there is none."""
    if os.environ.get(SWITCH, "").lower() in _OFF:
        return None, f"switched off by {SWITCH}"
    if not LIBRARY_FILE.is_file():
        return None, "not compiled: there was no C compiler when orz-monitor was installed"
    try:
        return Scanner(load_library(LIBRARY_FILE)), ""
    except (OSError, ImportError, AttributeError, ValueError) as error:
        return None, f"not loaded: {error}"


SCANNER, WHY_NOT = _scanner()
"""The scanner, or None; and why there is none, for `orz doctor`."""
