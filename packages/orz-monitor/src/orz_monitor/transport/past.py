"""What stands in a file before the part of it that is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 20
_OVERLAP_BYTES: Final = 256
"""Of a chunk, looked at together with the next one: what is sought is no longer."""


class Past:
    """Looks back from a place in a plain file of this machine, and reads no more of it than it is asked for.

    Args:
        path: the file.
        at: where the part begins, at the beginning of a line, in bytes.
    """

    def __init__(self, path: Path, at: int) -> None:
        self._path = path
        self._at = at
        self._found: dict[tuple[re.Pattern[bytes], int], bool] = {}

    def last_lines(self, num_bytes: int) -> bytes:
        """Return the whole lines that the last so many bytes hold.

        Raises:
            OSError: the file can't be read.
        """
        start = max(self._at - num_bytes, 0)
        with self._path.open("rb") as file:
            file.seek(start)
            text = file.read(self._at - start)
        return text.partition(b"\n")[2] if start else text

    def holds(self, pattern: re.Pattern[bytes], *, but_last: int = 0) -> bool:
        """Tell whether a pattern is found, of at most 256 bytes; the file is read up to the first place, once.

        Args:
            pattern: what is sought.
            but_last: how many bytes before the part are not looked at.

        Raises:
            OSError: the file can't be read.
        """
        if (pattern, but_last) not in self._found:
            self._found[pattern, but_last] = self._search(pattern, self._at - but_last)
        return self._found[pattern, but_last]

    def _search(self, pattern: re.Pattern[bytes], stop: int) -> bool:
        """Read from the beginning of the file until a pattern is found, or up to an offset."""
        end, left = b"", stop
        with self._path.open("rb", buffering=0) as file:
            while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
                left -= len(chunk)
                if pattern.search(end + chunk):
                    return True
                end = chunk[-_OVERLAP_BYTES:]
        return False
