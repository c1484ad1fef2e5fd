"""What is not followed, and is refused instead of waited for."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from orz_cli.errors import UsageError
from orz_monitor.addresses import is_url
from orz_monitor.errors import UnreadableRunError
from orz_monitor.run_files import RECORDS_FILE
from orz_monitor.transport.pipes import is_pipe

_LOOK_AGAIN_S: Final = 2.0
_MAGIC_BYTES: Final = 4
_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


def refuse_pipe(path: Path) -> None:
    """Refuse a pipe or a device, of which nothing can be read twice.

    Raises:
        UnreadableRunError: it is one.
    """
    if is_pipe(path):
        raise UnreadableRunError(
            f"{path}: a pipe or a device: only files are followed",
            remedy="write it to a file as well (`... | tee train.log`), or read it once: orz monitor check",
        )


def refuse_what_never_comes(path: Path) -> None:
    """Refuse what is not there and need not be waited for.

    Raises:
        UsageError: it is a URL or standard input.
        UnreadableRunError: it names a run of a store.
        OSError: it can't be looked at, such as a link to itself.
    """
    if is_url(path) or str(path) == "-":
        raise UsageError(
            f"{'standard input' if str(path) == '-' else path}: only files of this machine are followed",
            remedy="write it to a file as well (`... | tee train.log`), or read it once: orz monitor check",
        )
    if "#" in str(path):
        refuse_store(path)
    with suppress(FileNotFoundError, NotADirectoryError):
        path.stat()


def is_compressed(start: bytes) -> bool:
    """Tell, by the first bytes of a file, whether gzip or Zstandard has packed it."""
    return start.startswith(_COMPRESSED)


def refuse_compressed(path: Path) -> None:
    """Refuse a compressed file.

    Raises:
        UnreadableRunError: it is one.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        start = file.read(_MAGIC_BYTES)
    if is_compressed(start):
        raise UnreadableRunError(
            f"{path}: a compressed file does not grow",
            remedy="orz monitor report, check or tail --once, which read it whole",
        )


def refuse_store(path: Path) -> None:
    """Refuse a store of another tool: nothing of it is read line by line.

    Args:
        path: a file or folder, or `PATH#RUN`.

    Raises:
        UnreadableRunError: it is a store, which the message names.
    """
    if what := store_in(path):
        raise UnreadableRunError(
            f"{path}: {what}, not followed line by line",
            remedy="orz monitor report, check or tail --once read how it stands; orz monitor watch judges it again and "
            "again",
        )


def store_in(path: Path) -> str:
    """Say what store of another tool a path is, in words; empty where it is none."""
    from orz_monitor.stores.recognise import kind_of  # noqa: PLC0415 - numpy, after the first picture

    return kind_of(path)


class Stores:
    """Looks for a store of another tool where a log is awaited: alone it is refused, beside a log it is pointed at.

    Args:
        given: what is to be followed.
    """

    def __init__(self, given: Path) -> None:
        self._given = given
        self._look_at = 0.0
        self._was_beside_looked_at = False
        self._beside = ""

    @property
    def hint(self) -> str:
        """What else could be read, as the end of a sentence; empty where there is nothing."""
        return f"; orz monitor report reads the {self._beside} in {self._given}" if self._beside else ""

    def look_in_folder(self) -> None:
        """Look, every two seconds, into a folder in which there is nothing to follow, and into the folders in it.

        Raises:
            UnreadableRunError: there is a store in it.
        """
        if time.monotonic() >= self._look_at:
            for place in (self._given, *sorted(self._given.glob(f"*/{RECORDS_FILE}"))):
                refuse_store(place)
            self._look_at = time.monotonic() + _LOOK_AGAIN_S

    def look_beside(self, path: Path) -> None:
        """Look, once, at a file in which there is no metric, and around it.

        Raises:
            UnreadableRunError: the file itself is a store.
        """
        if self._was_beside_looked_at:
            return
        refuse_store(path)
        self._was_beside_looked_at = True
        self._beside = store_in(self._given) if self._given.is_dir() else ""
