"""Pipes and devices that are named as files: `<(zcat train.log.gz)`, `mkfifo`, `/dev/stdin`."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.printable import one_line

_PATIENCE_S: Final = 5.0
"""For which somebody to write to a pipe is waited for."""
_POLL_S: Final = 0.02
_CHUNK_BYTES: Final = 1 << 16


def is_pipe(path: Path) -> bool:
    """Tell whether something is there that is neither a file nor a folder, and can be read once at most."""
    with suppress(OSError):
        mode = path.stat().st_mode
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return False


def bytes_of_pipe(path: Path) -> Iterator[bytes]:
    """Yield what comes through a pipe or from a device, until its end; of a pipe, once somebody writes to it.

    Raises:
        UnreadableRunError: nobody does for five seconds.
        OSError: it can't be read.
    """
    is_fifo = stat.S_ISFIFO(path.stat().st_mode)
    with io.FileIO(os.open(path, os.O_RDONLY | (os.O_NONBLOCK if is_fifo else 0))) as file:
        if is_fifo:
            yield _first_bytes(file, path)
            os.set_blocking(file.fileno(), True)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _first_bytes(file: io.FileIO, path: Path) -> bytes:
    """Return the first bytes of a pipe, none where somebody has it open and has not written yet.

    Raises:
        UnreadableRunError: nobody opens it.
    """
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        start = file.read(_CHUNK_BYTES)
        if start is None:
            return b""
        if start:
            return start
        time.sleep(_POLL_S)
    raise UnreadableRunError(
        f"{one_line(str(path))}: a pipe that nobody writes to",
        remedy="start what writes to it first, or give a log as a file",
    )
