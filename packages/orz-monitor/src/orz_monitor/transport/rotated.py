"""What was written to a log between two looks and lies under other names by now: rotated copies, and parts in between.

A file is known again by what it is (its inode), or by what stands in it: its first bytes, and those before the place up
to which it was read. The second also finds copies, and files that were packed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from orz_monitor.errors import UnreadableRunError

KNOWN_BYTES: Final = 256
"""By so many a file is known again, at its beginning and before the place up to which it was read."""
_PACKINGS: Final = (".gz", ".zst")
_READ_BYTES: Final = 1 << 20


class Trace(NamedTuple):
    """What a file that was followed is known by.

    Attributes:
        start: its first bytes, up to 256 that were read.
        end: those before `offset`, up to 256.
        offset: up to where it was read, in bytes.
    """

    start: bytes
    end: bytes
    offset: int


def found_copy(parts: Sequence[Path], trace: Trace) -> tuple[int, bytes] | None:
    """Return which of the parts is a file that was followed, or a copy of it, and what it holds beyond the offset.

    Args:
        parts: the parts of the log, the oldest first; the newest one that fits counts.
        trace: what the file is known by; one that nothing was read of is never found.
    """
    for at in reversed(range(len(parts) if trace.offset else 0)):
        with suppress(OSError, UnreadableRunError):
            if next(_pieces(parts[at], 0), b"").startswith(trace.start):
                rest = b"".join(_pieces(parts[at], trace.offset - len(trace.end)))
                if rest.startswith(trace.end):
                    return at, rest[len(trace.end) :]
    return None


def place_of(parts: Sequence[Path], file: os.stat_result, trace: Trace) -> int | None:
    """Return which of the parts a file became that was renamed, or packed; None where it is none of them.

    Args:
        parts: the parts of the log, the oldest first.
        file: what the system says of the file that was followed.
        trace: what it is known by where its inode isn't there any more.
    """
    for at, part in enumerate(parts):
        with suppress(OSError):
            if os.path.samestat(part.stat(), file):
                return at
    found = found_copy(parts, trace)
    return None if found is None else found[0]


def written_after(parts: Sequence[Path], modified_ns: int) -> list[bytes]:
    """Return what the parts hold that were written to after a time; what can't be read is left out.

    Args:
        parts: those behind the file that was followed, the oldest first.
        modified_ns: when that was written to last, in nanoseconds. Where numbers rise with each rotation, the parts
            behind it are older than it is.
    """
    contents: list[bytes] = []
    for part in parts:
        with suppress(OSError, UnreadableRunError):
            if part.stat().st_mtime_ns > modified_ns:
                contents.append(b"".join(_pieces(part, 0)))
    return contents


def _pieces(part: Path, offset: int) -> Iterator[bytes]:
    """Yield the bytes of a part from an offset on, unpacked.

    Raises:
        OSError: it can't be opened or read.
        UnreadableRunError: it is packed, and can't be read, or is no text.
    """
    if part.suffix in _PACKINGS:
        from orz_monitor.transport.opening import chunks  # noqa: PLC0415 - gzip; most logs have nothing packed

        for chunk in chunks(part):
            yield chunk[offset:]
            offset = max(0, offset - len(chunk))
    else:
        with part.open("rb") as file:
            file.seek(offset)
            while piece := file.read(_READ_BYTES):
                yield piece
