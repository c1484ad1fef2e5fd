"""Open what a user names: a file, standard input or a URL, plain or compressed, as chunks of bytes."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from orz_monitor.addresses import is_url, located
from orz_monitor.errors import UnreadableRunError, unreadable
from orz_monitor.printable import one_line

CHUNK_BYTES: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"
_SNIFFED_BYTES: Final = 1 << 16
_CONTROLS: Final = bytes(c for c in range(32) if c not in b"\a\b\t\n\x0b\x0c\r\x1b") + b"\x7f"
_BINARY_FRAC: Final = 0.03
"""Control characters that no log has this many of; random bytes have three times as many."""


@contextmanager
def opened(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a log for reading bytes; `-` is standard input, and compressed files are decompressed.

    Raises:
        UnreadableRunError: it can't be opened, with the reason.
    """
    try:
        with _raw(path) as raw:
            yield _decompressed(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def chunks(path: str | Path, torn: Callable[[str], object] = lambda _: None) -> Iterator[bytes]:
    """Yield the bytes of a log in chunks of up to 1 MiB, the first one looked at.

    Args:
        path: the log.
        torn: called where a compressed file can't be read to its end, with the reason; what comes before was yielded.

    Raises:
        UnreadableRunError: it can't be read, or is no text.
    """
    try:
        with _raw(path) as raw:
            yield from chunks_of(raw, path, torn)
    except OSError as error:
        raise unreadable(path, error) from error


def chunks_of(raw: IO[bytes], path: str | Path, torn: Callable[[str], object] = lambda _: None) -> Iterator[bytes]:
    """Yield the bytes of a log that is open, as `chunks` does.

    Args:
        raw: its bytes as they are stored, from the first on.
        path: what the log is called.
        torn: called where a compressed file can't be read to its end, with the reason; what comes before was yielded.

    Raises:
        UnreadableRunError: it can't be read, or is no text.
    """
    try:
        file = _decompressed(raw)
        first = True
        while chunk := _next(file, torn):
            if first:
                refuse_binary(chunk, path)
                first = False
            yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def refuse_binary(start: bytes, path: str | Path) -> None:
    """Refuse what is no text, by its first bytes.

    Raises:
        UnreadableRunError: it is binary data.
    """
    sample = start[:_SNIFFED_BYTES].replace(b"\0", b"")  # a truncated log that is written on has holes of zeros
    wide = start[:2] in {b"\xff\xfe", b"\xfe\xff"}
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if wide or (sample and controls / len(sample) > _BINARY_FRAC) or (start and not sample):
        what = "UTF-16 text" if wide else "binary data"
        raise UnreadableRunError(
            f"{one_line(str(path))}: no metric recognised: {what}, not a log",
            remedy="convert it with `iconv -f UTF-16 -t UTF-8`" if wide else "give a console log, or a run folder",
        )


def _next(file: IO[bytes], torn: Callable[[str], object]) -> bytes:
    """Read a chunk; the end of a torn compressed stream is an end, and what comes before it is kept."""
    read = getattr(file, "read1", file.read)
    pieces: list[bytes] = []
    left = CHUNK_BYTES
    try:
        while left > 0 and (piece := read(left)):
            pieces.append(piece)
            left -= len(piece)
    except EOFError:
        torn("ends in the middle")
    except (zlib.error, gzip.BadGzipFile):
        torn("is damaged")
    except Exception as error:  # zstandard may not be imported: its error is known by name
        if not type(error).__module__.startswith("zstandard"):
            raise
        torn("is damaged")
    return b"".join(pieces)


@contextmanager
def _raw(path: str | Path) -> Iterator[IO[bytes]]:
    """Open the bytes as they are stored."""
    place = located(path)
    if str(path) == "-":
        yield sys.stdin.buffer
    elif is_url(place):
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415  slow to import, and rarely needed

        try:
            remote = fsspec.open(str(place), "rb")
        except (ImportError, ValueError) as error:
            raise UnreadableRunError(
                f"{one_line(str(place))}: {error}",
                remedy="install the fsspec driver of this kind of URL, or copy the file",
            ) from error
        with remote as file:
            yield cast("IO[bytes]", file)
    else:
        with place.open("rb") as file:
            yield file


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    """Return a stream of plain bytes, by the first bytes of what is there."""
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", raw), CHUNK_BYTES)
    magic = buffered.peek(4)[:4]
    if magic.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    if magic == _ZSTANDARD:
        from orz_monitor.transport.zstandard_frames import Frames  # noqa: PLC0415  rarely needed

        return io.BufferedReader(Frames(buffered), CHUNK_BYTES)
    return buffered
