"""Read a big local file in several processes, each a part of it, cut at newlines.

The first part is read by this process, each other one by `python -m orz_monitor.parts FILE START STOP DIALECT...`,
which writes its `Log` to standard output: an ordinary child process works from threads, from scripts without a main
guard, and on every system.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

from orz_monitor.dialects import Dialect, find_dialect
from orz_monitor.log import Log
from orz_monitor.log_rest import add_rest
from orz_monitor.packing import pack, unpack
from orz_monitor.reading import Reader
from orz_monitor.transport.opening import CHUNK_BYTES

SMALLEST_BYTES: Final = 64 << 20
"""A smaller file is read sooner than a second process has started."""
_SMALLEST_PART_BYTES: Final = 32 << 20
_MOST_PARTS: Final = 8
"""Each takes the memory of a process."""
_HEAD_START_BYTES: Final = 96 << 20
"""What this process reads while the others start."""
_LONGEST_LINE: Final = 1 << 20
_PIPE_BYTES: Final = 1 << 20
"""What another process has read comes through this, in turns that are the longer the larger it is."""


def num_parts(path: Path) -> int:
    """Return how many processes a file is worth: one, unless it is big, plain and local, and there are processors."""
    try:
        num_bytes = path.stat().st_size if path.is_file() else 0
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
        if num_bytes < SMALLEST_BYTES or processors == 1:
            return 1
        with path.open("rb") as file:
            if file.read(4).startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
                return 1
    except OSError:
        return 1
    return min(processors, num_bytes // _SMALLEST_PART_BYTES, _MOST_PARTS)


def read_in_parts(path: Path, log: Log, kinds: Sequence[type[Dialect]], number: int) -> None:
    """Read a file into a log, each part but the first by another process; by this one, where that fails.

    Args:
        path: the file.
        log: where entries go.
        kinds: the dialects to try, in order.
        number: of parts.

    Raises:
        OSError: the file can't be read.
    """
    cuts = [0, *_cuts(path, number), sys.maxsize]  # what is written meanwhile belongs to the last part
    with ExitStack() as stack:
        others = [
            (start, stop, stack.enter_context(_reading(path, start, stop, kinds))) for start, stop in pairwise(cuts[1:])
        ]
        _read(Reader(log, kinds, path), path, cuts[0], cuts[1])
        for start, stop, child in others:
            with child:
                rest = unpack(child.stdout) if child.stdout is not None else None
            if rest is None or child.returncode != 0:
                rest = _read(Reader(Log(), kinds, path), path, start, stop)
            add_rest(log, rest)


def _reading(path: Path, start: int, stop: int, kinds: Sequence[type[Dialect]]) -> subprocess.Popen[bytes]:
    """Start a process that reads a part."""
    places = [f"{kind.__module__}:{kind.__qualname__}" for kind in kinds]
    command = [sys.executable, "-m", "orz_monitor.parts", str(path), str(start), str(stop), *places]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    child = subprocess.Popen(  # noqa: S603  our own module, and no shell
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    with suppress(ImportError, AttributeError, OSError):  # other systems, and who has too many large ones
        import fcntl  # noqa: PLC0415  not on Windows

        fcntl.fcntl(child.stdout or -1, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return child


def _read(reader: Reader, path: Path, start: int, stop: int) -> Log:
    """Read a part of a file, and the rest of a block of lines that goes beyond it."""
    for chunk in _range(path, start, stop):
        reader.feed(chunk)
    if stop < sys.maxsize:
        reader.finish_block(_range(path, stop, stop + _LONGEST_LINE))
    return reader.close()


def _cuts(path: Path, number: int) -> Iterator[int]:
    """Yield the offsets of the lines at which parts begin, such that all are read at the same time."""
    with path.open("rb") as file:
        num_bytes = path.stat().st_size
        size = max(num_bytes - _HEAD_START_BYTES, 0) // number
        for left in range(number - 1, 0, -1):
            start = num_bytes - left * size
            file.seek(start)
            yield start + len(file.readline(_LONGEST_LINE))


def _range(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` to `stop`."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        left = stop - start
        while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk


if __name__ == "__main__":
    _path, _start, _stop, *_places = sys.argv[1:]
    _kinds = [find_dialect(place) for place in _places]
    _log = _read(Reader(Log(), _kinds, Path(_path)), Path(_path), int(_start), int(_stop))
    pack(_log, sys.stdout.buffer)
