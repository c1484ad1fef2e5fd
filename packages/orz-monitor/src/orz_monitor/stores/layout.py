"""Where the scalars are in one TensorBoard event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orz_monitor.stores.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, fields, varint

_HALF: Final = 19
_FORMS: Final = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "<u1",
    5: "<i2",
    6: "<i1",
    9: "<i8",
    10: "<u1",
    14: "bf2",
    17: "<u2",
    _HALF: "<f2",
    22: "<u4",
    23: "<u8",
}
"""TensorFlow's numbers of types, and how a tensor's content holds one value; the last character is its bytes."""
_LISTS: Final = {5: "<f4", 6: "<f8", 7: "varint", 10: "varint", 11: "varint", 13: "half", 16: "varint", 17: "varint"}
"""The fields of a tensor that list values: numbers of fields, and how each value is held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where one scalar is in an event.

    Attributes:
        tag: where its tag begins and ends.
        value: where its value begins and ends.
        form: numpy's name of how the value is held; or `bf2`, a bfloat16; or `varint`, whose 64 bits are a signed
            integer; or `half` or `bfloat`, a varint whose 16 bits are such a number.
    """

    tag: tuple[int, int]
    value: tuple[int, int]
    form: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where things are in an event, in bytes from its begin.

    Attributes:
        time: where the wall time is, 8 bytes; None where it was left out.
        step: where the step's varint begins and ends; None where the step was left out, as 0 is.
        scalars: the scalars of its summary.
    """

    time: int | None
    step: tuple[int, int] | None
    scalars: tuple[Place, ...]


def layout_of(event: bytes) -> Layout:
    """Find the time, the step and the scalars of an event.

    Raises:
        WireError: the bytes are no event.
    """
    time, step, scalars = None, None, []
    for found in fields(event):
        match found.number, found.kind:
            case (1, 1):
                time = found.start
            case (2, 0):
                step = (found.start, found.end)
            case (5, 2):
                scalars += [
                    place
                    for value in fields(event, found.start, found.end)
                    if (value.number, value.kind) == (1, BYTES) and (place := _scalar(event, value)) is not None
                ]
            case _:
                pass  # a graph, a file version: no scalars
    return Layout(time=time, step=step, scalars=tuple(scalars))


def _scalar(event: bytes, value: Field) -> Place | None:
    """Find the tag and the number of one value of a summary; None where it is an image, a histogram, a text."""
    tag, number, form = None, None, ""
    for found in fields(event, value.start, value.end):
        match found.number, found.kind:
            case (1, 2):
                tag = (found.start, found.end)
            case (2, 5):
                number, form = (found.start, found.end), "<f4"
            case (8, 2):
                number, form = _tensor(event, found)
            case _:
                pass  # metadata, or another kind of value
    return Place(tag=tag, value=number, form=form) if tag is not None and number is not None else None


def _tensor(event: bytes, tensor: Field) -> tuple[tuple[int, int] | None, str]:
    """Find the number of a tensor that holds exactly one."""
    dtype, listed, content, size = 0, None, None, 1
    for found in fields(event, tensor.start, tensor.end):
        if (found.number, found.kind) == (1, VARINT):
            dtype, _ = varint(event, found.start, found.end)
        elif (found.number, found.kind) == (2, BYTES):
            size = _size(event, found)
        elif (found.number, found.kind) == (4, BYTES):
            content = found
        elif found.number in _LISTS:
            if listed is not None:
                return None, ""
            listed = found
    form = _FORMS.get(dtype, "")
    if size != 1 or not form:
        return None, ""
    if content is not None and content.end - content.start == int(form[-1]):
        return (content.start, content.end), form
    return _one_of_list(event, listed, dtype) if listed is not None else (None, "")


def _one_of_list(event: bytes, listed: Field, dtype: int) -> tuple[tuple[int, int] | None, str]:
    """Find the one number of a list, packed or not."""
    form = _LISTS[listed.number]
    start, end = listed.start, listed.end
    if form in {"<f4", "<f8"}:
        expected = FIXED32 if form == "<f4" else FIXED64
        whole = listed.kind in {BYTES, expected} and end - start == int(form[-1])
        return ((start, end), form) if whole else (None, "")
    if listed.kind not in {BYTES, VARINT} or start == end:
        return None, ""
    _, stop = varint(event, start, end)
    if form == "half" and dtype != _HALF:
        form = "bfloat"
    return ((start, end), form) if stop == end else (None, "")


def _size(event: bytes, shape: Field) -> int:
    """Return how many numbers a tensor of this shape has; 0 for an unknown shape."""
    size = 1
    for dim in fields(event, shape.start, shape.end):
        if (dim.number, dim.kind) == (2, BYTES):
            sizes = [varint(event, f.start, f.end)[0] for f in fields(event, dim.start, dim.end) if f.number == 1]
            size *= sizes[0] if sizes else 0
        elif dim.number == 3:  # noqa: PLR2004 - unknown_rank
            return 0
    return size
