"""One process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orz_ckpt.errors import CkptError

if TYPE_CHECKING:
    from pathlib import Path


@contextmanager
def held(path: Path, otherwise: str) -> Iterator[None]:
    """Hold a lock on the file `path`, which is made, where the system has such locks.

    Raises:
        CkptError: another process holds it: `otherwise` says what that means.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            import fcntl  # noqa: PLC0415  not on Windows

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except BlockingIOError:
            raise CkptError(otherwise, remedy="wait for it, or choose another place") from None
        yield
    finally:
        os.close(descriptor)
