"""Records to lines of JSON and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final

from orz_monitor.records.model import VERSION, EventRecord, NewerRecordError, Record, RecordError, StepRecord

_WRITTEN_AS: Final[Mapping[str, float]] = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


MAX_WHOLE: Final = 2**63
"""Counts stay below this, so that they fit an array."""


def dumps(record: Record) -> str:
    """Write a record as one line of ASCII JSON, without the newline.

    Equal records give equal lines: keys are in a fixed order and floats in their shortest exact form.

    Raises:
        RecordError: a field has a type that the contract does not allow.
    """
    line: dict[str, object] = {"v": VERSION}
    if isinstance(record, StepRecord):
        line |= {"kind": "step", "step": _whole(record.step, "step"), "time": _encoded(float(record.time))}
        if record.policy_version is not None:
            line["policy_version"] = _whole(record.policy_version, "policy_version")
        line["metrics"] = _encoded_numbers(record.metrics, "metrics")
        line["seconds"] = _encoded_numbers(record.seconds, "seconds")
    else:
        line |= {"kind": "event", "event": record.event, "time": _encoded(float(record.time))}
        if record.step is not None:
            line["step"] = _whole(record.step, "step")
        line["data"] = _encoded(record.data)
    return json.dumps(line, separators=(",", ":"), allow_nan=False)


def loads(line: str) -> Record:
    """Read a record from one line; keys that are not in the contract are ignored.

    Raises:
        RecordError: the line is not JSON, not a record, or of a newer version.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise RecordError(f"a record is a JSON object, got {_kind_of(fields)}")
    version = _whole(fields.get("v"), "v")
    if not 1 <= version <= VERSION:
        raise NewerRecordError(
            f"record of version {version}, this reader knows 1 to {VERSION}", remedy="upgrade orz-monitor"
        )
    match fields.get("kind"):
        case "step":
            return StepRecord(
                step=_whole(fields.get("step"), "step"),
                time=_number(fields.get("time"), "time"),
                metrics=_numbers(fields.get("metrics"), "metrics"),
                seconds=_numbers(fields.get("seconds", {}), "seconds"),
                policy_version=_whole_or_none(fields.get("policy_version"), "policy_version"),
            )
        case "event":
            event, data = fields.get("event"), fields.get("data", {})
            if not isinstance(event, str) or not event:
                raise RecordError(f"'event' must be a name, got {_kind_of(event)}")
            if not isinstance(data, dict):
                raise RecordError(f"'data' must be an object, got {_kind_of(data)}")
            return EventRecord(
                event=event,
                time=_number(fields.get("time"), "time"),
                step=_whole_or_none(fields.get("step"), "step"),
                data={key: _decoded(value) for key, value in data.items()},
            )
        case other:
            raise RecordError(f"'kind' must be 'step' or 'event', got {other!r}")


def _encoded(value: object) -> object:
    """Return `value` in JSON types, with sorted keys and non-finite numbers as text."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        number = float(value)  # a numpy scalar is a float, too
        return number if math.isfinite(number) else repr(number)
    if isinstance(value, Mapping):
        return {str(key): _encoded(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_encoded(item) for item in value]
    raise RecordError(f"'data' holds {_kind_of(value)}, which JSON can't", remedy="pass numbers, text, lists, mappings")


def _decoded(value: object) -> object:
    """Undo `_encoded`."""
    if isinstance(value, str):
        return _WRITTEN_AS.get(value, value)
    if isinstance(value, dict):
        return {key: _decoded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value


def _encoded_numbers(values: Mapping[str, float], where: str) -> dict[str, object]:
    """Return `values` sorted by name, each a float or the name of a non-finite one."""
    try:
        return {name: _encoded(float(values[name])) for name in sorted(values)}
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordError(f"'{where}' must map names to numbers: {error}") from None


def _numbers(values: object, where: str) -> dict[str, float]:
    """Check and read an object of numbers."""
    if not isinstance(values, dict):
        raise RecordError(f"'{where}' must be an object, got {_kind_of(values)}")
    return {name: _number(value, f"{where}.{name}") for name, value in values.items()}


def _number(value: object, where: str) -> float:
    """Check and read a number, which may be one of the three words."""
    if isinstance(value, str) and value in _WRITTEN_AS:
        return _WRITTEN_AS[value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf  # an integer beyond the range of floats
    raise RecordError(f"'{where}' must be a number, got {_kind_of(value)}")


def _whole(value: object, where: str) -> int:
    """Check a count."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_WHOLE:
        raise RecordError(f"'{where}' must be a whole number from 0 to 2^63 - 1, got {_kind_of(value)}")
    return int(value)


def _whole_or_none(value: object, where: str) -> int | None:
    """Check a count that may be absent."""
    return None if value is None else _whole(value, where)


def _kind_of(value: object) -> str:
    """Name a value for a message without printing all of it."""
    text = repr(value)
    shown = text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004 - a message stays on one line
    return f"{type(value).__name__} {shown}"
