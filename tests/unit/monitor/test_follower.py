"""Following a file through everything that happens to files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orz_monitor.transport.follower import Change, Follower

pytestmark = pytest.mark.unit


def test_growing_without_a_newline_and_byte_by_byte(tmp_path: Path) -> None:
    """What is written is returned once, whatever it is."""
    path = tmp_path / "a.log"
    follower = Follower(path)
    assert follower.poll().change is Change.NONE
    read = b""
    with path.open("ab", buffering=0) as file:
        for byte in b"step:1 - a:1\nx":
            file.write(bytes([byte]))
            read += b"".join(follower.poll().chunks)
    assert read == b"step:1 - a:1\nx"
    assert follower.poll().chunks == ()


@pytest.mark.parametrize("rotations", [20])
def test_rotations_lose_nothing(tmp_path: Path, rotations: int) -> None:
    """The end of the old file comes before the beginning of the new one."""
    path = tmp_path / "a.log"
    path.write_bytes(b"first\n")
    follower = Follower(path)
    read = b"".join(follower.poll().chunks)
    for index in range(rotations):
        with path.open("ab") as file:
            file.write(b"end %d\n" % index)
        path.rename(tmp_path / f"a.log.{index}")
        path.write_bytes(b"new %d\n" % index)
        news = follower.poll()
        assert (news.change, news.fresh) == (Change.REPLACED, 1)
        read += b"".join(news.chunks)
    assert read == b"first\n" + b"".join(b"end %d\nnew %d\n" % (i, i) for i in range(rotations))


def test_truncation_and_rewriting_of_the_same_file(tmp_path: Path) -> None:
    """A shorter file begins anew, and so does one of the same length with another beginning."""
    path = tmp_path / "a.log"
    path.write_bytes(b"old old old\n")
    follower = Follower(path)
    follower.poll()
    os.truncate(path, 0)
    assert follower.poll().change is Change.TRUNCATED
    with path.open("r+b") as file:
        file.write(b"new\n")
    assert follower.poll().chunks == (b"new\n",)
    with path.open("r+b") as file:
        file.write(b"NEW and longer\n")
    news = follower.poll()
    assert (news.change, news.chunks) == (Change.REWRITTEN, (b"NEW and longer\n",))


def test_deleted_and_made_anew(tmp_path: Path) -> None:
    """A file that vanishes is said to, and its successor is read from its beginning."""
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    follower = Follower(path)
    follower.poll()
    with path.open("ab") as file:
        file.write(b"last words\n")
    path.unlink()
    news = follower.poll()
    assert (news.change, news.chunks) == (Change.VANISHED, (b"last words\n",))
    assert follower.poll().change is Change.NONE
    path.write_bytes(b"two\n")
    news = follower.poll()
    assert (news.change, news.chunks) == (Change.REPLACED, (b"two\n",))


def test_a_backlog_is_read_in_pieces_from_an_offset(tmp_path: Path) -> None:
    """Whoever paints first and reads later begins near the end."""
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * (9 << 20))
    follower = Follower(path, offset=100)
    news = follower.poll()
    assert len(news.chunks[0]) == 8 << 20
    assert news.behind_bytes == (1 << 20) - 100
    assert len(follower.poll().chunks[0]) == (1 << 20) - 100
