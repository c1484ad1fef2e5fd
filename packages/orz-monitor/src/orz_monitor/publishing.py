"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from orz_cli.errors import UsageError


def publish(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file beside `target`, then put it in its place at once.

    Args:
        target: the file that is made or replaced.
        write: writes the file at the path it is given, which does not exist.

    Raises:
        UsageError: the file can't be written there.
    """
    unfinished = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        write(unfinished)
        unfinished.replace(target)
    except OSError as error:
        raise UsageError(
            f"{target}: can't be written: {error.strerror or error}", remedy="choose another place with --output"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
