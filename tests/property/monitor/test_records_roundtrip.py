"""Records survive writing and reading, for any content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orz_monitor.records import EventRecord, RecordError, StepRecord, dumps, loads, read_records

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.property

FLOATS = st.floats(allow_nan=False)  # NaN is not equal to itself; the unit tests have it
COUNTS = st.integers(min_value=0, max_value=2**62)
NUMBERS = st.dictionaries(st.text(), FLOATS, max_size=5)
TEXT = st.text().filter(lambda text: text not in {"nan", "inf", "-inf"})
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
STEPS = st.builds(
    StepRecord, step=COUNTS, time=FLOATS, metrics=NUMBERS, seconds=NUMBERS, policy_version=st.none() | COUNTS
)
EVENTS = st.builds(
    EventRecord,
    event=st.text(min_size=1),
    time=FLOATS,
    step=st.none() | COUNTS,
    data=st.dictionaries(st.text(), DATA, max_size=4),
)


@given(STEPS | EVENTS)
def test_a_record_reads_back_as_itself(record: StepRecord | EventRecord) -> None:
    """Floats are exact, and one record is one line of ASCII."""
    line = dumps(record)
    assert line.isascii()
    assert line.isprintable()
    assert record == loads(line)


@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(str))
def test_any_text_is_a_record_or_a_record_error(text: str) -> None:
    """No input makes the reader fail in another way."""
    try:
        loads(text)
    except RecordError as error:
        assert error.message  # noqa: PT017 - either outcome is right


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.lists(STEPS, max_size=3))
def test_any_bytes_between_records_lose_no_record(tmp_path: Path, noise: bytes, records: list[StepRecord]) -> None:
    """Lines of noise are reported and the records around them are all there."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(noise + b"\n" + b"".join(dumps(record).encode() + b"\n" for record in records))
    found = [line.record for line in read_records(path) if line.record is not None]
    assert records == found[len(found) - len(records) :]
