"""`verify --level sample`: parts chosen by chance against digests of chunks, tensors, files and records."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.checks import sample
from orz_ckpt.checks.content import Job
from orz_ckpt.checks.headers import check_header
from orz_ckpt.checks.search import Search, Stretch
from orz_ckpt.entries import entry_of
from orz_ckpt.findings import Level, Report
from orz_ckpt.manifest import CHUNK_BYTES
from orz_ckpt.verify import verify
from orz_ckpt.watch import Silent
from orz_cli.findings import Severity, Status
from orz_cli.main import main

pytestmark = pytest.mark.component

MIB = 1024 * 1024


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 1]))


def test_everything(step: Path) -> None:
    """A sample of all bytes finds what the full level finds, and says that it would have."""
    shard = step / "policy" / "model-00001-of-00002.safetensors"
    assert Status.OK is verify(step, level=Level.SAMPLE, sample=1.0).status()
    flip(shard, shard.stat().st_size - 1)
    report = verify(step, level=Level.SAMPLE, sample=1.0)

    assert (Status.FAILED, str(shard)) == (report.status(), the(report, "digest_differs").path)
    assert "9 of 9 parts" in the(report, "sampled").message
    assert "in one place is found with probability 100.00%" in the(report, "sampled").message


def test_chance_is_as_stated() -> None:
    """With a share f of equal parts, damage in one place is found in about f of many samples."""
    units = [sample.Unit(path=Path("x"), offset=i, nbytes=1, what="", digest="d", algo="blake3") for i in range(50)]
    chance = random.Random(1)  # noqa: S311  a test
    found = sum(any(unit.offset == 7 for unit in sample._choose(units, 0.1, chance)) for _ in range(2000))
    message = sample._said(Path("x"), units, units[:5]).message

    assert 0.08 < found / 2000 < 0.12
    assert "5 of 50 parts" in message
    assert "probability 10.00%, in 100 places with 100.00%" in message


def test_chunks_of_a_large_file(tmp_path: Path) -> None:
    """A large file whose manifest lists chunks is checked chunk by chunk, each by itself."""
    path = tmp_path / "state.bin"
    path.write_bytes(np.arange((CHUNK_BYTES + MIB) // 4, dtype="<u4").tobytes())
    job = Job(path=path, size=path.stat().st_size, entry=entry_of(path), header=None)
    first, second = sample.units_of(job)
    assert ((0, CHUNK_BYTES), (CHUNK_BYTES, MIB)) == ((first.offset, first.nbytes), (second.offset, second.nbytes))
    flip(path, CHUNK_BYTES + 5)

    assert [[], ["digest_differs"]] == [
        [entry.code for entry in sample._check(unit, Silent())] for unit in (first, second)
    ]


def test_tensors_of_a_large_file(tmp_path: Path) -> None:
    """One without chunks, as a merge writes it, is checked tensor by tensor."""
    path = tmp_path / "w.safetensors"
    save_file({"a": np.ones(CHUNK_BYTES // 4 + 1, np.float32), "b": np.arange(8.0)}, path)
    header, _ = check_header(path)
    units = sample.units_of(Job(path=path, size=path.stat().st_size, entry=entry_of(path), header=header))

    assert {"a", "b"} == {unit.tensor for unit in units}
    assert [] == [entry for unit in units for entry in sample._check(unit, Silent())]


def test_numbers_where_nothing_vouches(model: Path) -> None:
    """Without a digest anywhere, blocks are searched for NaN, and it is said that this is all."""
    name = "model-00001-of-00002.safetensors"
    with (model / name).open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(np.float32(np.nan).tobytes())
    report = verify(model, level=Level.SAMPLE, sample=1.0)

    assert {"not_finite"} == {entry.code for entry in report.findings if entry.severity is Severity.ERROR}
    assert "were searched for NaN, 0 of them compared with a digest" in the(report, "sampled").message


def test_numbers_that_a_digest_vouches_for(tmp_path: Path) -> None:
    """NaN that was written is NaN under a digest: of a file, of a chunk, of a tensor, of a record of an archive."""
    torch = pytest.importorskip("torch")
    small, large, archive = tmp_path / "small.safetensors", tmp_path / "large.safetensors", tmp_path / "model.pt"
    numbers = np.ones(8, np.float32)
    numbers[5] = np.nan
    save_file({"whole": np.ones(3, np.float32), "broken": numbers}, small)
    huge = np.ones(CHUNK_BYTES // 4 + 100, np.float32)
    huge[CHUNK_BYTES // 4 + 50] = -np.inf  # in the second chunk
    save_file({"huge": huge}, large)
    torch.save({"sound": torch.ones(4), "broken": torch.tensor([1.0, float("nan")])}, archive)
    for path, chunks, name in ((small, True, "broken"), (large, True, "huge"), (large, False, "huge")):
        header, _ = check_header(path)
        entry = entry_of(path) if chunks else replace(entry_of(path), chunks=None)
        units = sample.units_of(Job(path=path, size=path.stat().st_size, entry=entry, header=header))
        found = [entry for unit in units for entry in sample._check(unit, Silent())]
        assert [("not_finite", name)] == [(entry.code, entry.tensor) for entry in found], (path, chunks)
        assert all(unit.vouched for unit in units)
    report = verify(archive, level=Level.SAMPLE, sample=1.0)
    assert (Status.FAILED, "broken") == (report.status(), the(report, "not_finite").tensor)
    assert "were compared" in the(report, "sampled").message


@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("begin", [100, 101, 103])
def test_a_number_across_pieces_is_searched_once_whole(width: int, begin: int) -> None:
    """However bytes are cut into pieces, each number is seen whole: one NaN in any place, none where none is."""
    kind = {2: np.float16, 4: np.float32, 8: np.float64}[width]
    dtype = {2: "F16", 4: "F32", 8: "F64"}[width]
    for place in range(12):
        for value, expected in ((np.nan, ["x"]), (1.0, [])):
            numbers = np.full(12, -1.5, kind)
            numbers[place] = value
            data = bytes(range(250, 256)) * (begin // 6) + b"\xff" * (begin % 6) + numbers.tobytes() + b"\xff" * 9
            stretch = Stretch(tensor="x", begin=begin, end=begin + numbers.nbytes, dtype=dtype)
            for cut in (1, 3, 7, 8, 13, 64):
                search = Search([stretch], 0)
                for start in range(0, len(data), cut):
                    search.update(memoryview(data)[start : start + cut])
                assert expected == list(search.bad), (place, cut)


@pytest.mark.parametrize("share", ["0", "-1%", "101%", "1.5", "half", "nan"])
def test_shares_that_are_none(step: Path, share: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A share is more than nothing and at most all."""
    assert 2 == main(["ckpt", "verify", str(step), "--level", "sample", "--sample", share])
    assert "expected more than 0 and at most 100%" in capsys.readouterr().err


def test_share_on_the_command_line(step: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--sample 100%` and `--sample 1.0` read everything, the default at least one part."""
    for share, expected in (("100%", "9 of 9 parts"), ("1.0", "9 of 9 parts"), ("1%", " of 9 parts, ")):
        assert 0 == main(["ckpt", "verify", str(step), "--level", "sample", "--sample", share])
        assert expected in capsys.readouterr().out
