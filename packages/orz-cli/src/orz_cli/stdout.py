"""What the file behind stdout refuses, told from what any other file does."""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextmanager
def refusals() -> Iterator[Sequence[OSError]]:
    """Yield the errors that writing to stdout met since; a stdout without a file behind it never meets one.

    An error of a full disk does not say which disk that is. Who writes to stdout once more to find out leaves
    something there where stdout takes it.
    """
    met: list[OSError] = []
    buffer = getattr(sys.stdout, "buffer", None)
    file = getattr(buffer, "raw", buffer)  # with `python -u` there is no buffer between
    if not isinstance(file, io.FileIO):
        yield met
        return
    write = file.write

    def watched(data: bytes) -> int | None:
        try:
            return write(data)
        except OSError as error:
            met.append(error)
            raise

    file.write = watched  # type: ignore[assignment, method-assign]  # the buffer asks the file for it at each write
    try:
        yield met
    finally:
        file.write = write  # type: ignore[method-assign]  # as it was
