"""Read a `metrics.jsonl` that may be growing, torn or damaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_monitor.records.codec import loads
from orz_monitor.records.model import NewerRecordError, Record, RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE_STARTS_WITH: Final = b'{"v":'
"""What every line of our records begins with."""
_LONGEST_LINE_BYTES: Final = 8 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of the file: a record, or why there is none.

    Attributes:
        number: line number, from 1.
        record: what the line says, or None where it can't be read.
        error: why it can't be read; empty for a record.
        torn: the line was cut off while it was written.
        newer: the line is of a later version of the contract.
    """

    number: int
    record: Record | None = None
    error: str = ""
    torn: bool = False
    newer: bool = False


def read_records(path: Path) -> Iterator[Line]:
    """Yield every non-empty line of a records file, readable or not, in order.

    A line that can't be read never raises: it is reported in its `Line`. Where a process died while
    writing and its successor appended to the torn line, the successor's record is still found.

    Raises:
        OSError: the file can't be opened or read.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.strip():
                yield from read_line(raw, number)


def read_line(raw: bytes, number: int) -> Iterator[Line]:
    """Yield the one record of a line, or the torn part and the record that was appended to it.

    Args:
        raw: the line with its newline; without one, it counts as cut off where it can't be read.
        number: its line number, from 1.
    """
    if len(raw) > _LONGEST_LINE_BYTES:
        yield Line(number=number, error=f"line of {len(raw)} bytes, more than any record has")
        return
    try:
        yield Line(number=number, record=loads(raw.decode("utf-8")))
    except NewerRecordError as error:
        yield Line(number=number, error=error.message, newer=True)
    except (RecordError, UnicodeDecodeError) as error:
        appended = raw.rfind(LINE_STARTS_WITH, 1)
        if appended > 0:
            try:
                record = loads(raw[appended:].decode("utf-8"))
            except (RecordError, UnicodeDecodeError):
                pass
            else:
                yield Line(number=number, error="cut off while it was written", torn=True)
                yield Line(number=number, record=record)
                return
        torn = not raw.endswith(b"\n") or _is_cut_off(raw.strip())
        yield Line(number=number, error="cut off while it was written" if torn else _reason(error), torn=torn)


def _is_cut_off(raw: bytes) -> bool:
    """Tell whether a line begins as a record and ends before its last brace: a writer died, another ended the line."""
    if not (raw.startswith(LINE_STARTS_WITH) or LINE_STARTS_WITH.startswith(raw)):
        return False
    depth, in_text, escaped = 0, False, False
    for byte in raw:
        if escaped:
            escaped = False
        elif in_text:
            escaped = byte == ord("\\")
            in_text = byte != ord('"')
        elif byte == ord('"'):
            in_text = True
        else:
            depth += (byte in b"{[") - (byte in b"}]")
    return in_text or depth > 0


def _reason(error: RecordError | UnicodeDecodeError) -> str:
    """Say why a whole line could not be read."""
    return error.message if isinstance(error, RecordError) else "not UTF-8 text"
