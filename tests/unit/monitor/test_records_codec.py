"""Records to lines and back."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from orz_monitor.records import EVENTS, EventRecord, RecordError, StepRecord, dumps, loads

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
GOLDEN = (ROOT / "tests/golden/records_v1.jsonl").read_text().splitlines()
UNKNOWN_KEYS = (ROOT / "tests/golden/records_v1_unknown_keys.jsonl").read_text().splitlines()
SCHEMA = json.loads((ROOT / "docs/reference/records-v1.schema.json").read_text())

BAD_LINES = [
    '{"v":1,"kind":"st',
    "[1]",
    "null",
    '{"kind":"step","step":1,"time":0,"metrics":{}}',
    '{"v":0,"kind":"step","step":1,"time":0,"metrics":{}}',
    '{"v":2,"kind":"step","step":1,"time":0,"metrics":{}}',
    '{"v":true,"kind":"step","step":1,"time":0,"metrics":{}}',
    '{"v":1,"kind":"span","step":1,"time":0,"metrics":{}}',
    '{"v":1,"kind":"step","step":-1,"time":0,"metrics":{}}',
    '{"v":1,"kind":"step","step":1.5,"time":0,"metrics":{}}',
    '{"v":1,"kind":"step","step":1,"metrics":{}}',
    '{"v":1,"kind":"step","step":1,"time":0}',
    '{"v":1,"kind":"step","step":1,"time":0,"metrics":[]}',
    '{"v":1,"kind":"step","step":1,"time":0,"metrics":{"a":null}}',
    '{"v":1,"kind":"step","step":1,"time":0,"metrics":{"a":"1.0"}}',
    '{"v":1,"kind":"step","step":1,"time":0,"metrics":{"a":true}}',
    '{"v":1,"kind":"event","event":"","time":0}',
    '{"v":1,"kind":"event","event":3,"time":0}',
    '{"v":1,"kind":"event","event":"x","time":0,"data":[]}',
]


@pytest.mark.parametrize("line", GOLDEN)
def test_golden_lines_come_back_to_the_byte(line: str) -> None:
    """What version 1 wrote is read and written again unchanged."""
    assert line == dumps(loads(line))


@pytest.mark.parametrize("line", GOLDEN + UNKNOWN_KEYS)
def test_golden_lines_fit_the_schema(line: str) -> None:
    """The published schema describes what is written, and what else is accepted."""
    jsonschema.validate(json.loads(line), SCHEMA)


def test_unknown_keys_and_missing_optional_ones_are_accepted() -> None:
    """A reader lives with a newer writer of the same version."""
    step, event = map(loads, UNKNOWN_KEYS)
    assert StepRecord(step=3, time=7.0, metrics={"reward/mean": 1.0}, seconds={"total": 2.0}) == step
    assert EventRecord(event="lunch", time=8.5) == event


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_line_that_is_no_record_is_refused(line: str) -> None:
    """Damage is reported as RecordError with exit code 3, whatever it looks like."""
    with pytest.raises(RecordError) as caught:
        loads(line)
    assert caught.value.exit_code == 3
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("line", [line for line in BAD_LINES[1:] if '"v":2' not in line])
def test_the_schema_refuses_what_the_reader_refuses(line: str) -> None:
    """Schema and reader agree on what is not a record."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(line), SCHEMA)


def test_the_schema_names_every_field() -> None:
    """A field added to a dataclass must be added to the schema."""
    for record, definition in ((StepRecord, "step"), (EventRecord, "event")):
        fields = {field.name for field in dataclasses.fields(record)}
        assert {"v", "kind"} | fields == set(SCHEMA["$defs"][definition]["properties"])


def test_non_finite_numbers_are_kept() -> None:
    """NaN and infinities survive in metrics, seconds, time and data, and the line is strict JSON."""
    record = StepRecord(step=0, time=0, metrics={"a": math.nan, "b": math.inf, "c": -math.inf}, seconds={"t": math.inf})
    line = dumps(record)
    json.loads(line, parse_constant=pytest.fail)
    back = loads(line)
    assert isinstance(back, StepRecord)
    assert math.isnan(back.metrics["a"])
    assert {"b": math.inf, "c": -math.inf} == {name: back.metrics[name] for name in "bc"}
    assert {"t": math.inf} == back.seconds
    event = loads(dumps(EventRecord(event="x", time=math.inf, data={"deep": [{"n": -math.inf}]})))
    assert EventRecord(event="x", time=math.inf, data={"deep": [{"n": -math.inf}]}) == event


def test_bare_nan_of_other_writers_is_read() -> None:
    """Python's own NaN and Infinity, which are not JSON, are understood, and an integer too big for a float is inf."""
    line = '{"v":1,"kind":"step","step":1,"time":0,"metrics":{"a":NaN,"b":-Infinity,"c":1' + "0" * 400 + "}}"
    record = loads(line)
    assert isinstance(record, StepRecord)
    assert math.isnan(record.metrics["a"])
    assert -math.inf == record.metrics["b"]
    assert math.inf == record.metrics["c"]


def test_order_of_insertion_does_not_show() -> None:
    """Equal metrics give equal bytes."""
    one = StepRecord(step=0, time=0, metrics={"b": 1, "a": 2}, seconds={"y": 1, "x": 2})
    two = StepRecord(step=0, time=0, metrics={"a": 2, "b": 1}, seconds={"x": 2, "y": 1})
    assert dumps(one) == dumps(two)
    assert dumps(EventRecord(event="x", time=0, data={"b": {"d": 1, "c": 2}})) == (
        '{"v":1,"kind":"event","event":"x","time":0.0,"data":{"b":{"c":2,"d":1}}}'
    )


def test_numpy_scalars_are_written_as_numbers() -> None:
    """A numpy float is not written as np.float64(...)."""
    line = dumps(StepRecord(step=0, time=0, metrics={"a": np.float64(0.1), "b": np.float32(0.5), "c": np.int64(3)}))
    assert '"metrics":{"a":0.1,"b":0.5,"c":3.0}' in line


@pytest.mark.parametrize(
    "record",
    [
        StepRecord(step=-1, time=0, metrics={}),
        StepRecord(step=True, time=0, metrics={}),
        StepRecord(step=0, time=0, metrics={"a": "x"}),  # type: ignore[dict-item]
        StepRecord(step=0, time=0, metrics={"a": None}),  # type: ignore[dict-item]
        StepRecord(step=0, time=0, metrics={}, policy_version=-2),
        EventRecord(event="x", time=0, data={"path": Path("a")}),
        EventRecord(event="x", time=0, data={"raw": b"a"}),
    ],
)
def test_what_the_contract_does_not_allow_is_not_written(record: StepRecord | EventRecord) -> None:
    """A writer's mistake is found at the writer."""
    with pytest.raises(RecordError):
        dumps(record)


def test_the_reference_page_lists_every_event() -> None:
    """docs/reference/records.md is current."""
    page = (ROOT / "docs/reference/records.md").read_text()
    assert [] == [name for name, meaning in EVENTS.items() if f"| `{name}` | {meaning} |" not in page]
