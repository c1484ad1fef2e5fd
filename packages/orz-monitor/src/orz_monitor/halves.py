"""Read a big local file in two processes, each about one half, cut at a newline.

The second half is read by `python -m orz_monitor.halves FILE OFFSET DIALECT...`, which writes its `Log` to standard
output: an ordinary child process works from threads, from scripts without a main guard, and on every system.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
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
_HEAD_START_BYTES: Final = 20 << 20
"""What is read while a second process starts."""
_LONGEST_LINE: Final = 1 << 20


def can_be_halved(path: Path) -> bool:
    """Tell whether a file is worth two processes: big, plain, local, and there are two processors."""
    try:
        big = path.is_file() and path.stat().st_size >= SMALLEST_BYTES
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
        if not big or processors < 2:  # noqa: PLR2004 - one a half
            return False
        with path.open("rb") as file:
            return not file.read(4).startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))
    except OSError:
        return False


def read_in_halves(path: Path, log: Log, kinds: Sequence[type[Dialect]]) -> None:
    """Read a file into a log, the second half by another process; by this one, where that fails.

    Raises:
        OSError: the file can't be read.
    """
    cut = _cut(path)
    places = [f"{kind.__module__}:{kind.__qualname__}" for kind in kinds]
    command = [sys.executable, "-m", "orz_monitor.halves", str(path), str(cut), *places]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as child:  # noqa: S603
        reader = Reader(log, kinds, path)
        for chunk in _range(path, 0, cut):
            reader.feed(chunk)
        reader.finish_block(_range(path, cut, cut + _LONGEST_LINE))
        reader.close()
        rest = unpack(child.stdout) if child.stdout is not None else None
    add_rest(log, rest if rest is not None and child.returncode == 0 else _rest(path, cut, kinds))


def _rest(path: Path, cut: int, kinds: Sequence[type[Dialect]]) -> Log:
    """Read a file from an offset on."""
    reader = Reader(Log(), kinds, path)
    for chunk in _range(path, cut, sys.maxsize):
        reader.feed(chunk)
    return reader.close()


def _cut(path: Path) -> int:
    """Return the offset of the line at which both processes are done at the same time."""
    with path.open("rb") as file:
        middle = (path.stat().st_size + _HEAD_START_BYTES) // 2
        file.seek(middle)
        return middle + len(file.readline(_LONGEST_LINE))


def _range(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` to `stop`."""
    with path.open("rb") as file:
        file.seek(start)
        left = stop - start
        while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk


if __name__ == "__main__":
    _path, _offset, *_places = sys.argv[1:]
    _log = _rest(Path(_path), int(_offset), [find_dialect(place) for place in _places])
    pack(_log, sys.stdout.buffer)
