"""What a log became between two looks is found: packed copies, and parts that had its name for a moment."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from orz_monitor.tail.followed_file import FollowedFile

pytestmark = pytest.mark.unit

HEAD = b"a banner that every file begins with, as long as what a file is known by: " + b"-" * 300 + b"\n"


def lines(first: int, last: int) -> bytes:
    return b"".join(b"step %d\n" % step for step in range(first, last))


def append(log: Path, data: bytes, at_s: int) -> None:
    """Write, at a time in seconds."""
    with log.open("ab") as file:
        file.write(data)
    os.utime(log, (at_s, at_s))


def shift(log: Path) -> None:
    """Give each part the next number."""
    for number in (3, 2, 1):
        for ending in ("", ".gz", ".zst"):
            part = log.with_name(f"{log.name}.{number}{ending}")
            if part.exists():
                part.rename(log.with_name(f"{log.name}.{number + 1}{ending}"))


def rename(log: Path) -> None:
    """Rotate as logrotate does."""
    shift(log)
    log.rename(f"{log}.1")


def rename_and_pack(log: Path) -> None:
    """Rotate as `compress` says, which keeps the time of the file."""
    rename(log)
    modified_s = Path(f"{log}.1").stat().st_mtime
    Path(f"{log}.1.gz").write_bytes(gzip.compress(Path(f"{log}.1").read_bytes()))
    os.utime(f"{log}.1.gz", (modified_s, modified_s))
    Path(f"{log}.1").unlink()


def copy(log: Path) -> None:
    """Rotate as `copytruncate` says."""
    shift(log)
    shutil.copy2(log, f"{log}.1")
    os.truncate(log, 0)


def copy_and_pack(log: Path, pack: Callable[[bytes], bytes] = gzip.compress, ending: str = "gz") -> None:
    """Rotate as `copytruncate` and `compress` say."""
    shift(log)
    Path(f"{log}.1.{ending}").write_bytes(pack(log.read_bytes()))
    os.utime(f"{log}.1.{ending}", (log.stat().st_mtime, log.stat().st_mtime))
    os.truncate(log, 0)


def copy_and_pack_zstandard(log: Path) -> None:
    """The same with `compresscmd zstd`."""
    copy_and_pack(log, zstandard.ZstdCompressor().compress, "zst")


def all_of(file: FollowedFile) -> list[bytes]:
    """Poll to the end; return what came of each file that had the path."""
    contents: dict[int, bytes] = {}
    for _ in range(20):  # an empty file in between is no end
        data = file.poll()
        contents[file.num_changes] = contents.get(file.num_changes, b"") + data
    return [content for content in contents.values() if content]


ROTATIONS = [rename, rename_and_pack, copy, copy_and_pack, copy_and_pack_zstandard]


@pytest.mark.parametrize("rotate", ROTATIONS)
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("has_new", [False, True])
def test_rotations_between_two_looks_lose_nothing(
    tmp_path: Path, rotate: Callable[[Path], None], number: int, *, has_new: bool
) -> None:
    """Each file comes whole and alone, in order, also where the last one is still empty; older parts stay unread."""
    log = tmp_path / "train.log"
    append(log, HEAD + lines(800, 900), 1000)
    rotate(log)
    append(log, HEAD + lines(0, 50), 2000)
    with FollowedFile(log) as file:
        assert [HEAD + lines(0, 50)] == all_of(file)
        append(log, lines(50, 60), 3000)
        rotate(log)
        for at in range(1, number):
            append(log, HEAD + lines(100 * at, 100 * at + 90), 3000 + at)
            rotate(log)
        append(log, HEAD + lines(700, 705) if has_new else b"", 4000)
        between = [HEAD + lines(100 * at, 100 * at + 90) for at in range(1, number)]
        assert [lines(50, 60), *between, *([HEAD + lines(700, 705)] if has_new else [])] == all_of(file)
        append(log, lines(705, 710), 5000)
        assert [lines(705, 710)] == all_of(file)


def test_a_cut_line_is_ended_in_each_part(tmp_path: Path) -> None:
    """So that two lines never become one."""
    log = tmp_path / "train.log"
    append(log, b"one\n", 1000)
    with FollowedFile(log) as file:
        all_of(file)
        append(log, b"tw", 2000)
        rename(log)
        append(log, b"thr", 3000)
        rename(log)
        append(log, b"four\n", 4000)
        assert [b"tw\n", b"thr\n", b"four\n"] == all_of(file)


def test_numbers_that_rise_are_read_once(tmp_path: Path) -> None:
    """Where the newest part has the highest number, those behind the file are older than it is."""
    log = tmp_path / "train.log"
    append(log, lines(0, 10), 1000)
    with FollowedFile(log) as file:
        seen = all_of(file)
        for number in range(1, 5):
            log.rename(f"{log}.{number}")
            append(log, lines(10 * number, 10 * number + 10), 1000 + number)
            seen += all_of(file)
    assert [lines(10 * number, 10 * number + 10) for number in range(5)] == seen


def test_a_truncated_log_without_a_copy_takes_nothing_from_older_parts(tmp_path: Path) -> None:
    """One that begins alike is another file: it holds other lines where this one was read to."""
    log = tmp_path / "train.log"
    append(log, HEAD + lines(0, 50), 1000)
    rename(log)
    append(log, HEAD + lines(50, 80), 2000)
    with FollowedFile(log) as file:
        all_of(file)
        os.truncate(log, 0)
        append(log, lines(80, 81), 3000)
        assert [lines(80, 81)] == all_of(file)
