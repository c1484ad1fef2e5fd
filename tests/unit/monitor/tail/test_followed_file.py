"""Following a file by polling: what is appended is read once and whole, whatever happens to the file."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from orz_monitor.tail.followed_file import FollowedFile

pytestmark = pytest.mark.unit


Follow = Callable[..., FollowedFile]


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Follow files until the end of the test."""
    with ExitStack() as files:
        yield lambda path, **options: files.enter_context(FollowedFile(path, **options))


def everything(file: FollowedFile) -> bytes:
    """Poll until there is nothing new."""
    parts = []
    while data := file.poll():
        parts.append(data)
    return b"".join(parts)


def append(path: Path, text: str) -> None:
    with path.open("a") as log:
        log.write(text)


def test_a_file_that_is_not_there_yet_is_read_from_its_first_byte(tmp_path: Path, follow: Follow) -> None:
    """Nothing at first, then all of it, then what comes after."""
    path = tmp_path / "log"
    file = follow(path)
    assert b"" == file.poll()
    assert not file.exists
    append(path, "one\n")
    assert b"one\n" == everything(file)
    assert file.exists
    append(path, "tw")
    append(path, "o\n")
    assert b"two\n" == everything(file)
    assert 0 == file.num_changes


def test_only_the_end_of_a_large_file_is_read_first(tmp_path: Path, follow: Follow) -> None:
    """`start` says where reading began; a smaller file is read whole."""
    path = tmp_path / "log"
    append(path, "0123456789")
    file = follow(path, last_bytes=4)
    assert b"6789" == everything(file)
    assert 6 == file.start
    assert b"0123456789" == everything(follow(path, last_bytes=100))


def test_a_rotated_file_is_read_to_its_end_before_its_successor(tmp_path: Path, follow: Follow) -> None:
    """Rename and create: what was appended before the rename, then the new file; a cut line is ended."""
    path = tmp_path / "log"
    append(path, "one\n")
    file = follow(path)
    everything(file)
    append(path, "two\nthr")
    path.rename(tmp_path / "log.1")
    append(path, "four\n")
    assert b"two\nthr\nfour\n" == everything(file)
    assert 1 == file.num_changes


def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path, follow: Follow) -> None:
    """What copytruncate leaves: the same file, shorter."""
    path = tmp_path / "log"
    append(path, "a long first line\n")
    file = follow(path)
    everything(file)
    os.truncate(path, 0)
    append(path, "short\n")
    assert b"short\n" == everything(file)
    assert 1 == file.num_changes


def test_a_file_rewritten_in_place_is_read_from_its_beginning(tmp_path: Path, follow: Follow) -> None:
    """The size has only grown, but the file begins differently."""
    path = tmp_path / "log"
    append(path, "first run\n")
    file = follow(path)
    everything(file)
    with path.open("r+") as log:
        log.truncate(0)
        log.write("another run, with more to say\n")
    assert b"another run, with more to say\n" == everything(file)
    assert 1 == file.num_changes


def test_a_deleted_file_may_come_back(tmp_path: Path, follow: Follow) -> None:
    """While it is gone nothing is read; the new one is read from its beginning."""
    path = tmp_path / "log"
    append(path, "one\n")
    file = follow(path)
    everything(file)
    path.unlink()
    assert b"" == file.poll()
    assert not file.exists
    append(path, "two\n")
    assert b"two\n" == everything(file)
    assert file.exists


@pytest.mark.parametrize("how", ["rename", "truncate", "delete"])
def test_no_line_is_lost_or_repeated_over_many_rotations(tmp_path: Path, follow: Follow, how: str) -> None:
    """A hundred rotations between random appends and polls: each line once, in order.

    A truncated file has to be read before it is truncated; the others need not be.
    """
    rng = random.Random(0)  # noqa: S311 - a test's dice
    path = tmp_path / "log"
    file, seen, number = follow(path), b"", 0
    for rotation in range(100):
        for _ in range(rng.randint(1, 5)):
            append(path, f"line {number}\n")
            number += 1
            if rng.random() < 0.5:
                seen += file.poll()
        if how != "rename":
            seen += everything(file)
        if how == "rename":
            seen += file.poll()  # log.7 is no part's name: a file in between is not found
            path.rename(tmp_path / f"log.{rotation}")
        elif how == "truncate":
            os.truncate(path, 0)
            file.poll()
        else:
            path.unlink()
    seen += everything(file)
    assert [f"line {index}" for index in range(number)] == seen.decode().split("\n")[:-1]


def test_a_folder_is_an_error_with_a_reason(tmp_path: Path, follow: Follow) -> None:
    """What can't be read raises, it is not waited for."""
    with pytest.raises(OSError, match="directory"):
        follow(tmp_path).poll()
