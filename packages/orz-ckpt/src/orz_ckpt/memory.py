"""Memory that is not there is said together with what it was for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from orz_ckpt.errors import OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def memory_for(what: object) -> Iterator[None]:
    """Name what the block reads where memory for it is missing; the innermost block knows best.

    Example:
        >>> with memory_for(path):
        ...     data = path.read_bytes()

    Raises:
        OutOfMemoryError: in place of a `MemoryError` of the block.
    """
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        reason = f": {error}" if str(error) else ""
        raise OutOfMemoryError(
            f"{what}: there is not enough memory to read it{reason}",
            remedy="end other programs, raise the limit of memory, or run it on a machine with more",
        ) from error
