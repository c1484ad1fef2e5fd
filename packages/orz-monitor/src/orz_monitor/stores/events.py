"""Scalars out of TensorBoard events: many at a time, since most events of a file look alike.

A trainer writes the same kind of event over and over: only the tag, the step, the time and the value differ.
So the first event of a kind is taken apart byte by byte, and all others of its length that agree with it in every
other byte are read at the same places, as columns of one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from orz_monitor.stores.crc32c import crc32c, masked
from orz_monitor.stores.layout import Layout, Place, layout_of
from orz_monitor.stores.protobuf import WireError
from orz_monitor.stores.tfrecord import Window

_MOST_KINDS: Final = 32
"""Kinds of event of one length that are looked for; what is left after them is read one by one."""
_MATRIX_BYTES: Final = 8 << 20
"""Bytes of a matrix of events; caches hold it, and long events need little memory."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scalars:
    """Values of one tag.

    Attributes:
        tag: its name, as bytes.
        places: [K] i64, byte of the file where the event of each begins, not in order.
        steps: [K] i64.
        times: [K] f64, seconds since the Unix epoch; NaN where none is known.
        values: [K] f64.
    """

    tag: bytes
    places: NDArray[np.int64]
    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]


def read_scalars(window: Window, damaged: list[tuple[int, str]]) -> Iterator[Scalars]:
    """Yield the scalars of a stretch of a file; a damaged event is told in `damaged` and left out.

    Args:
        window: whole records.
        damaged: where damaged events begin, with what is wrong; grows.
    """
    data = np.frombuffer(window.data, dtype=np.uint8)
    order = np.argsort(window.lengths, kind="stable")
    lengths, begins = np.unique(window.lengths[order], return_index=True)
    for length, group in zip(lengths.tolist(), np.split(order, begins[1:]), strict=True):
        most = max(1, _MATRIX_BYTES // (length + 1))
        for begin in range(0, len(group), most):
            starts = window.starts[group[begin : begin + most]]
            rows = sliding_window_view(data, length)[starts] if length else np.empty((len(starts), 0), np.uint8)
            stored = sliding_window_view(data, 4)[starts + length].view("<u4")[:, 0]
            whole = masked(crc32c(rows)) == stored
            places = starts + window.offset
            damaged += [(int(place), "damaged: the checksum of a record is wrong") for place in places[~whole]]
            yield from _read_alike(rows[whole], places[whole], damaged)


def _read_alike(
    rows: NDArray[np.uint8], places: NDArray[np.int64], damaged: list[tuple[int, str]]
) -> Iterator[Scalars]:
    """Yield the scalars of events of one length, kind by kind."""
    kinds = 0
    while len(rows):
        try:
            layout = layout_of(rows[0].tobytes())
        except WireError as error:
            damaged.append((int(places[0]), f"a record that is no event: {error}"))
            alike = np.zeros(len(rows), dtype=np.bool_)
            alike[0] = True
        else:
            most = len(rows) if kinds < _MOST_KINDS else 1
            alike = np.zeros(len(rows), dtype=np.bool_)
            alike[:most] = _alike(rows[:most], layout)
            yield from _read_kind(rows[alike], places[alike], layout)
        kinds += 1
        if kinds > _MOST_KINDS:  # no copy of all that is left for each single event
            rows, places = rows[1:], places[1:]
        else:
            rows, places = rows[~alike], places[~alike]


def _alike(rows: NDArray[np.uint8], layout: Layout) -> NDArray[np.bool_]:
    """Tell which events have the layout of the first: [N] bool."""
    fixed = np.ones(rows.shape[1], dtype=np.bool_)
    alike = np.ones(len(rows), dtype=np.bool_)
    if layout.time is not None:
        fixed[layout.time : layout.time + 8] = False
    integers = [place.value for place in layout.scalars if place.form in {"varint", "half", "bfloat"}]
    for start, end in [*integers, *([layout.step] if layout.step is not None else [])]:
        fixed[start:end] = False
        alike &= ((rows[:, start:end] ^ rows[0, start:end]) < 0x80).all(axis=1)  # noqa: PLR2004 - as many bytes
    for place in layout.scalars:
        fixed[slice(*place.tag)] = False
        fixed[slice(*place.value)] = False
    columns = np.flatnonzero(fixed)
    return np.asarray(alike & (rows[:, columns] == rows[0, columns]).all(axis=1))


def _read_kind(rows: NDArray[np.uint8], places: NDArray[np.int64], layout: Layout) -> Iterator[Scalars]:
    """Yield the scalars of events of one layout, tag by tag."""
    if not layout.scalars:
        return
    times = np.zeros(len(rows)) if layout.time is None else _held(rows, layout.time, layout.time + 8, "<f8")
    times = np.where(times == 0, np.nan, times)  # as who writes events without knowing the time does
    steps = np.zeros(len(rows), np.int64) if layout.step is None else _integers(rows, *layout.step)
    for place in layout.scalars:
        values = _values(rows, place)
        tags = np.ascontiguousarray(rows[:, slice(*place.tag)])
        for tag, members in _by_tag(tags):
            yield Scalars(
                tag=tag, places=places[members], steps=steps[members], times=times[members], values=values[members]
            )


def _by_tag(tags: NDArray[np.uint8]) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
    """Group rows of equal bytes; by a hash of eight bytes each, since sorting numbers is faster than sorting text."""
    width = tags.shape[1]
    if len(tags) == 1 or not width:
        yield tags[0].tobytes(), np.arange(len(tags))
        return
    factors = np.random.default_rng(width).integers(1, 1 << 62, size=(width, 1)).astype(np.uint64)
    hashes = np.zeros(len(tags), dtype=np.uint64)
    for column in range(width):
        hashes += tags[:, column].astype(np.uint64) * factors[column]
    _, firsts, group = np.unique(hashes, return_index=True, return_inverse=True)
    if not (tags == tags[firsts][group]).all():  # two tags of one hash: compare the bytes
        _, firsts, group = np.unique(tags, axis=0, return_index=True, return_inverse=True)
        group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group))[:-1]
    for first, members in zip(firsts.tolist(), np.split(order, ends), strict=True):
        yield tags[first].tobytes(), members


def _values(rows: NDArray[np.uint8], place: Place) -> NDArray[np.float64]:
    """Read one number of each row: [N] f64."""
    start, end = place.value
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN like any other
        return _converted(rows, start, end, place.form)


def _converted(rows: NDArray[np.uint8], start: int, end: int, form: str) -> NDArray[np.float64]:
    """Read numbers of one form: [N] f64."""
    match form:
        case "varint":
            return _integers(rows, start, end).astype(np.float64)
        case "half":
            return _integers(rows, start, end).astype(np.uint16).view(np.float16).astype(np.float64)
        case "bfloat":
            return _widened(_integers(rows, start, end).astype(np.uint32))
        case "bf2":
            return _widened(_held(rows, start, end, "<u2").astype(np.uint32))
        case _:
            return _held(rows, start, end, form).astype(np.float64)


def _widened(halves: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Read bfloat16 numbers, the upper halves of f32: [N] u32 of 16 bits each."""
    return (halves << np.uint32(16)).view(np.float32).astype(np.float64)


def _held(rows: NDArray[np.uint8], start: int, end: int, form: str) -> NDArray[np.float64]:
    """Read the same bytes of each row as numbers of one form: [N]."""
    numbers: NDArray[np.float64] = np.ascontiguousarray(rows[:, start:end]).view(form)[:, 0]
    return numbers


def _integers(rows: NDArray[np.uint8], start: int, end: int) -> NDArray[np.int64]:
    """Read a varint of each row, all of the same number of bytes: [N] i64."""
    out = np.zeros(len(rows), dtype=np.uint64)
    for index in range(end - start):
        out |= (rows[:, start + index] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * index)
    return out.view(np.int64)
