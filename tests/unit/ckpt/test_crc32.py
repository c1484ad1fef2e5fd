"""CRC-32 in parts is CRC-32."""

from __future__ import annotations

import runpy
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from orz_ckpt.disk import crc32 as module
from orz_ckpt.disk import crc32_joined
from orz_ckpt.disk.crc32 import crc32
from orz_ckpt.disk.spans import spans
from orz_ckpt.disk.uncached import AT_ONCE_BYTES, UncachedFiles
from orz_ckpt.formats.archive import Record
from orz_ckpt.merge.record_sums import SummedFiles
from orz_ckpt.tensors.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

DATA = memoryview(np.random.default_rng(0).integers(0, 256, 5_000_011, dtype=np.uint8).tobytes())


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("length", [0, 1, 100, 2**20, 2**21, 3_000_001, len(DATA)])
@pytest.mark.parametrize("begin", [0, 1, 0xDEADBEEF])
def test_sum_of_parts(monkeypatch: pytest.MonkeyPatch, cores: int, length: int, begin: int) -> None:
    """Any length in any number of parts, after any sum, gives what zlib gives for the whole."""
    monkeypatch.setattr(module, "_CORES", cores)
    monkeypatch.setattr(module, "crc32_of", zlib.crc32)

    assert zlib.crc32(DATA[:length], begin) == crc32(DATA[:length], begin)


@pytest.mark.parametrize(("without", "name"), [((), "zlib_ng.zlib_ng"), (("zlib_ng", "zlib_ng.zlib_ng"), "zlib")])
def test_zlib_stands_in_for_zlib_ng(monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...], name: str) -> None:
    """Both give the sums of zlib."""
    for missing in without:
        monkeypatch.setitem(sys.modules, missing, None)
    found = runpy.run_path(module.__file__)

    assert name == found["crc32_of"].__module__
    assert zlib.crc32(DATA) == found["crc32"](DATA)


@pytest.mark.parametrize("joined", [crc32_joined.joined, module.joined])
def test_two_sums_are_joined(joined: Callable[[int, int, int], int]) -> None:
    """The sum of a whole follows from those of its two parts, wherever it is cut, with zlib-ng and without."""
    for cut in (0, 1, 4097, len(DATA)):
        assert zlib.crc32(DATA) == joined(zlib.crc32(DATA[:cut]), zlib.crc32(DATA[cut:]), len(DATA) - cut)


def test_sums_of_records_out_of_ranges(tmp_path: Path) -> None:
    """Ranges in any order, with gaps, or read twice: each record's sum is that of its bytes in the file."""
    path = tmp_path / "archive"
    path.write_bytes(DATA)
    records = [
        Record(name=f"{a}", offset=a, nbytes=b - a, crc32=0) for a, b in ((30, 5000), (5040, 9000), (9010, 9020))
    ]
    with SummedFiles([path]) as files:
        for begin, end in ((4000, 4500), (30, 100), (100, 200), (5040, 6000), (5500, 9000), (12, 20)):
            files.read_into(path, memoryview(bytearray(end - begin)), begin)
        sums = files.crc32s(path, records)

    assert {record.name: zlib.crc32(DATA[record.offset : record.end]) for record in records} == sums


def test_sums_of_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a span only what was wanted counts, each record's share by itself, and what nobody wanted is read at the end.

    A gap that another span fills later is not summed up twice, and a range that lies across the end of a record is of
    no use to either: of the second record 1,000 bytes are left to read, and all of the third and the fourth.
    """
    path = tmp_path / "archive"
    path.write_bytes(DATA)
    places = ((30, 5000), (5064, 9000), (9000, 9600), (9700, 9800))
    records = [Record(name=f"{a}", offset=a, nbytes=b - a, crc32=0) for a, b in places]

    def run(begin: int, end: int) -> Run:
        return Run(path, begin, "U8", end - begin, memoryview(bytearray(end - begin)), "U8")

    with SummedFiles([path]) as files:
        for runs in ([run(30, 4000), run(4100, 5000), run(5064, 8000)], [run(4000, 4100)], [run(8500, 9300)]):
            (span,) = spans(runs, AT_ONCE_BYTES)
            assert DATA[span.begin : span.end] == files.read_span(span)
        once_more: list[int] = []
        read_into = UncachedFiles.read_into

        def noted(self: UncachedFiles, path: Path, buffer: memoryview, offset: int) -> None:
            once_more.append(len(buffer))
            read_into(self, path, buffer, offset)

        monkeypatch.setattr(UncachedFiles, "read_into", noted)
        sums = files.crc32s(path, records)

    assert {record.name: zlib.crc32(DATA[record.offset : record.end]) for record in records} == sums
    assert [1000, 600, 100] == once_more
