"""A pipe whose reader has left is told from one that is only read slowly, and from all else."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from orz_monitor.tail.listener import is_heard

pytestmark = pytest.mark.unit


def test_a_pipe_is_heard_until_its_reader_leaves() -> None:
    """Also where nothing was read yet."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        assert is_heard(stream)
        os.write(writer, b"a line\n")
        assert is_heard(stream)
        os.close(reader)
        assert not is_heard(stream)


def test_what_is_no_pipe_is_heard(tmp_path: Path) -> None:
    """A file, text in memory, a stream that is closed."""
    with (tmp_path / "out").open("w") as file:
        assert is_heard(file)
    assert is_heard(io.StringIO())
    assert is_heard(file)
