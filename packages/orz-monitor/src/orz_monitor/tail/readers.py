"""What turns the bytes of a file that grows into a run, and what files are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from orz_monitor.errors import UnreadableRunError
from orz_monitor.tail.places import RECORDS_FILE

if TYPE_CHECKING:
    from orz_monitor.run import Run
    from orz_monitor.tail.log_reader import LogReader

_START_BYTES: Final = 64 << 10
"""Of a file, by which it is told what it is."""
_RECORD: Final = b'{"v":'
_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


class Reader(Protocol):
    """Turns the bytes of a log into a run."""

    @property
    def num_lines(self) -> int:
        """How many lines were read, one that has not ended yet with them."""
        ...

    def feed(self, data: bytes) -> None:
        """Take more of the log."""
        ...

    def snapshot(self, others: Sequence[LogReader] = ()) -> Run:
        """Return the run as far as it was read, with what logs of other processes say of it."""
        ...


def make_reader(path: Path, folder: Path | None) -> Reader:
    """Return a reader for a file; numpy is imported here, after the first picture.

    Raises:
        UnreadableRunError: the file is compressed, or no text.
    """
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    if start.startswith(_COMPRESSED):
        raise UnreadableRunError(
            f"{path}: a compressed file does not grow", remedy="orz monitor report or check, which read it whole"
        )
    if path.name == RECORDS_FILE or start.lstrip().startswith(_RECORD):
        from orz_monitor.tail.records_reader import RecordsReader  # noqa: PLC0415 - numpy

        return RecordsReader(path, folder)
    from orz_monitor.transport.opening import refuse_binary  # noqa: PLC0415 - gzip

    refuse_binary(start, path)
    from orz_monitor.tail.log_reader import LogReader  # noqa: PLC0415 - numpy

    return LogReader(path, folder)


def refuse_what_never_comes(path: Path) -> None:
    """Refuse what is not there and need not be waited for.

    Raises:
        UnreadableRunError: it is a URL or standard input.
    """
    from orz_monitor.transport.opening import is_url  # noqa: PLC0415 - gzip, after the first picture

    if is_url(path) or str(path) == "-":
        raise UnreadableRunError(
            f"{'standard input' if str(path) == '-' else path}: only files of this machine are followed",
            remedy="write it to a file as well (`... | tee train.log`), or read it once: orz monitor check",
        )


def refuse_store(path: Path) -> None:
    """Refuse a table of metrics: no dialect reads it line by line.

    Raises:
        UnreadableRunError: the file is one.
    """
    from orz_monitor.stores.recognise import is_store  # noqa: PLC0415 - numpy, after the first picture

    if is_store(path):
        raise UnreadableRunError(
            f"{path}: a table of metrics, which is not followed line by line",
            remedy="orz monitor tail --once shows how it stands; orz monitor watch judges it again and again",
        )
