"""Zstandard's frames as a stream of plain bytes that tells where the last frame ends early.

The library's own stream reader ends as silently within a frame as behind one.
"""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING, Final

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_FED_BYTES: Final = 4096
"""So much is decompressed at once: a hostile file makes 32 KiB of a byte, which stays 128 MiB."""


class Frames(io.RawIOBase):
    """Decompresses frames, one behind the other.

    Args:
        packed: the compressed bytes.

    Raises:
        EOFError: on reading, where the bytes end within a frame; what was whole before was returned.
        zstandard.ZstdError: on reading, where they are damaged.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_within = False
        self._damage: zstandard.ZstdError | None = None
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Put plain bytes into a buffer; return how many, 0 at the end."""
        while not self._plain:
            if self._damage is not None:
                raise self._damage
            fed = self._packed.read(_FED_BYTES)
            if not fed:
                if self._is_within:
                    raise EOFError("compressed file ended within a frame")
                return 0
            self._plain = memoryview(self._decompressed(fed))
        room = memoryview(buffer).cast("B")
        num_bytes = min(len(room), len(self._plain))
        room[:num_bytes] = self._plain[:num_bytes]
        self._plain = self._plain[num_bytes:]
        return num_bytes

    def _decompressed(self, fed: bytes) -> bytes:
        """Return what compressed bytes hold, of as many frames as begin in them; damage is raised behind it."""
        pieces: list[bytes] = []
        while fed:
            try:
                pieces.append(self._frame.decompress(fed))
            except zstandard.ZstdError as error:
                self._damage = error
                break
            self._is_within = not self._frame.eof
            fed = self._frame.unused_data
            if not self._is_within:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        return b"".join(pieces)
