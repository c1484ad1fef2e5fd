"""Read a big local file in several processes, each a part of it, cut at newlines.

The first part is read by this process, each other one by `python -m orz_monitor.parts FILE CUTS DIALECT...`, which
writes its `Log` to standard output: an ordinary child process works from threads, from scripts without a main guard,
and on every system.

No cut goes through a block of lines, as far as what stands before it tells. Where a block goes on all the same, whoever
reads it goes on with the next part, too, which is then left out: what one reader knows of a block no other can. What
else is open at a cut, such as a sample that a trainer prints, dialects tell by looking back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from orz_monitor.dialects import Dialect, find_dialect
from orz_monitor.dialects.guarded import DialectError
from orz_monitor.log import Log
from orz_monitor.log_rest import add_rest
from orz_monitor.packing import pack, unpack
from orz_monitor.reading import Reader
from orz_monitor.transport.opening import CHUNK_BYTES
from orz_monitor.transport.past import Past

SMALLEST_BYTES: Final = 64 << 20
"""A smaller file is read sooner than a second process has started."""
_SMALLEST_PART_BYTES: Final = 32 << 20
_MOST_PARTS: Final = 8
"""Each takes the memory of a process."""
_HEAD_START_BYTES: Final = 96 << 20
"""What this process reads while the others start."""
_LONGEST_LINE: Final = 1 << 20
_BYTES_BEFORE: Final = 64 << 10
"""What is read before a cut to tell whether it goes through a block of lines."""
_MOST_BLOCKS: Final = 8
"""One behind the other that a cut is moved over."""
_LONGEST_BEFORE: Final = 1024
"""Of a line, in which a prefix may stand alone."""
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
        DialectError: a dialect of a user's raises something.
    """
    cuts = [0, *_cuts(path, number, kinds), sys.maxsize]  # what is written meanwhile belongs to the last part
    with ExitStack() as stack:
        rests = [cuts[part:] for part in range(1, len(cuts) - 1)]
        others = [(rest, stack.enter_context(_reading(path, rest, kinds))) for rest in rests]
        _read(log, path, cuts, kinds)
        for rest, child in others:
            if log.files[-1].num_bytes > rest[0]:  # a block went on
                child.kill()
                continue
            with child:
                more = unpack(child.stdout) if child.stdout is not None else None
            if more is None or child.returncode != 0:
                try:
                    more = _read(Log(), path, rest, kinds)
                except DialectError as error:
                    raise error.further_down(log.files[-1].num_lines) from error
            add_rest(log, more)


def _reading(path: Path, cuts: Sequence[int], kinds: Sequence[type[Dialect]]) -> subprocess.Popen[bytes]:
    """Start a process that reads the first part of those between cuts."""
    places = [f"{kind.__module__}:{kind.__qualname__}" for kind in kinds]
    command = [sys.executable, "-m", "orz_monitor.parts", str(path), ",".join(map(str, cuts)), *places]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    child = subprocess.Popen(  # noqa: S603  our own module, and no shell
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    with suppress(ImportError, AttributeError, OSError):  # other systems, and who has too many large ones
        import fcntl  # noqa: PLC0415  not on Windows

        fcntl.fcntl(child.stdout or -1, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return child


def _read(log: Log, path: Path, cuts: Sequence[int], kinds: Sequence[type[Dialect]]) -> Log:
    """Read the first part of those between cuts into a log, and each next one that a block of lines goes on in."""
    at, *stops = cuts
    reader = Reader(log, kinds, path, before=_line_before(path, at))
    if at:
        for dialect in reader.dialects:
            dialect.look_back(Past(path, at))
    for stop in stops:
        for chunk in _range(path, at, stop):
            reader.feed(chunk)
        at = max(at, stop)
        if stop == sys.maxsize:
            break
        at += reader.finish_block(_range(path, at, at + _LONGEST_LINE))
        if at == stop:
            break
    return reader.close()


def _cuts(path: Path, number: int, kinds: Sequence[type[Dialect]]) -> Iterator[int]:
    """Yield the offsets of the lines at which parts begin, such that all are read at the same time."""
    with path.open("rb") as file:
        num_bytes = path.stat().st_size
        size = max(num_bytes - _HEAD_START_BYTES, 0) // number
        last = 0
        for left in range(number - 1, 0, -1):
            start = num_bytes - left * size
            file.seek(start)
            last = max(last, _behind_block(path, start + len(file.readline(_LONGEST_LINE)), kinds))
            yield last


def _behind_block(path: Path, cut: int, kinds: Sequence[type[Dialect]]) -> int:
    """Return a cut, or the next one behind the block of lines that it goes through."""
    for _ in range(_MOST_BLOCKS):
        start = max(cut - _BYTES_BEFORE, 0)
        reader = Reader(Log(), kinds, path)
        before = b"".join(_range(path, start, cut))
        try:
            reader.feed(before.partition(b"\n")[2] if start else before)
            num_bytes = reader.finish_block(_range(path, cut, cut + _LONGEST_LINE))
        except DialectError:  # whoever reads this part says so, with the line in the file
            return cut
        if not num_bytes:
            break
        cut += num_bytes
    return cut


def _line_before(path: Path, at: int) -> bytes:
    """Return the end of the line above an offset, which is whole where it is short."""
    return b"".join(_range(path, max(at - _LONGEST_BEFORE, 0), at))[:-1].rpartition(b"\n")[2]


def _range(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` to `stop`."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        left = stop - start
        while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk


if __name__ == "__main__":
    _path, _cut_at, *_places = sys.argv[1:]
    _kinds = [find_dialect(place) for place in _places]
    pack(_read(Log(), Path(_path), [int(cut) for cut in _cut_at.split(",")], _kinds), sys.stdout.buffer)
