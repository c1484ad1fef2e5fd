"""Zstandard's frames as a stream that tells where it ends early."""

from __future__ import annotations

import io
import os

import pytest
import zstandard

from orz_monitor.transport.zstandard_frames import Frames

pytestmark = pytest.mark.unit

SKIPPED = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
"""A frame without content, as seekable files have one: its number, its length, its bytes (RFC 8878, 3.1.2)."""


def read(packed: bytes) -> tuple[bytes, bool]:
    """Return what is read of compressed bytes, and whether they end within a frame."""
    plain = bytearray()
    stream = io.BufferedReader(Frames(io.BytesIO(packed)), 1000)
    try:
        while piece := stream.read1(777):
            plain += piece
    except EOFError:
        return bytes(plain), True
    return bytes(plain), False


def test_only_between_frames_is_an_end() -> None:
    """Cut anywhere, a file gives no byte that was not in it; cut at the end of a frame, it is whole."""
    texts = [os.urandom(20).hex().encode() for _ in range(3)]
    frames = [zstandard.compress(text) for text in texts]
    packed = frames[0] + frames[1] + SKIPPED + frames[2]
    ends = [0, len(frames[0]), len(frames[0] + frames[1]), len(frames[0] + frames[1] + SKIPPED), len(packed)]
    for cut in range(len(packed) + 1):
        plain, ends_early = read(packed[:cut])
        assert (cut not in ends) == ends_early
        num_whole = sum(cut >= end for end in (ends[1], ends[2], ends[4]))
        assert plain.startswith(b"".join(texts[:num_whole]))
        assert b"".join(texts).startswith(plain)


def test_a_file_that_is_still_written_ends_in_a_frame() -> None:
    """Whatever its writer has flushed is read."""
    writer = zstandard.ZstdCompressor().compressobj()
    written, packed = b"", b""
    for step in range(5):
        line = b"step:%d - loss:0.5\n" % step
        written += line
        packed += writer.compress(line) + writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        assert read(packed) == (written, True)
    assert read(packed + writer.flush()) == (written, False)


def test_a_large_frame_comes_whole() -> None:
    """Text that hardly packs, and text that packs to nothing."""
    for text in (os.urandom(500_000).hex().encode(), b"-" * 30_000_000):
        assert read(zstandard.compress(text)) == (text, False)


def test_what_is_no_frame_is_damage() -> None:
    """Bytes behind the last frame, and a checksum that is another's."""
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(b"step:1")
    for damaged in (packed + b"no frame", packed[:-4] + bytes(4)):
        with pytest.raises(zstandard.ZstdError):
            read(damaged)
