"""A file read some pieces ahead: the pieces, in order, to the end of the file, and no thread that stays behind."""

from __future__ import annotations

import threading
from contextlib import closing
from io import FileIO
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.disk.ahead import read_ahead

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

DATA = b"abcdefghij"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read ahead")]


def pieces(path: Path, lengths: list[int]) -> list[bytes]:
    with FileIO(path) as stream:
        return [bytes(data) for data in read_ahead(stream, lengths, piece_bytes=4)]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([], []),
        ([3], [b"abc"]),
        ([4, 4, 2], [b"abcd", b"efgh", b"ij"]),
        ([1, 4, 2, 3], [b"a", b"bcde", b"fg", b"hij"]),
    ],
)
def test_pieces_are_the_file(path: Path, lengths: list[int], expected: list[bytes]) -> None:
    """Each piece holds the bytes behind those of the one before, however long that was."""
    assert expected == pieces(path, lengths)
    assert [] == readers()


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([4, 4, 4, 4], [b"abcd", b"efgh", b"ij"]),
        ([4, 4, 2, 4, 4], [b"abcd", b"efgh", b"ij", b""]),
    ],
)
def test_ends_where_the_file_ends(path: Path, lengths: list[int], expected: list[bytes]) -> None:
    """The piece that the file cannot fill is short, and no other follows."""
    assert expected == pieces(path, lengths)


def test_one_piece_needs_no_thread(path: Path) -> None:
    """A thread begins with the second piece, which is read while the caller has the first."""
    with FileIO(path) as stream, closing(read_ahead(stream, [4], piece_bytes=4)) as one:
        assert b"abcd" == bytes(next(one))
        assert [] == readers()
    with FileIO(path) as stream, closing(read_ahead(stream, [4, 4], piece_bytes=4)) as two:
        assert b"abcd" == bytes(next(two))
        assert 1 == len(readers())


def test_closing_waits_for_the_reader(path: Path) -> None:
    """Who stops early closes the generator: then nobody reads the file any more, and its rest was never read."""
    with FileIO(path) as stream:
        with closing(read_ahead(stream, [2] * 5, piece_bytes=2)) as ahead:
            next(ahead)
            assert 1 == len(readers())
        assert [] == readers()
        assert stream.tell() <= 2 * 4  # what was read, and three pieces ahead


def test_an_error_of_the_reader_is_the_callers(path: Path) -> None:
    """What goes wrong while the next piece is read is raised when it is asked for, and not before."""

    class Failing(FileIO):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().readinto(buffer)

    with Failing(path) as stream, closing(read_ahead(stream, [4, 4], piece_bytes=4)) as ahead:
        assert b"abcd" == bytes(next(ahead))
        with pytest.raises(OSError, match="Input/output error"):
            next(ahead)
    assert [] == readers()
