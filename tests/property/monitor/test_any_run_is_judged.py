"""Whatever a run logs, it is judged and reported without an exception or a warning of numpy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.formats.document import Checked, as_json
from orz_monitor.formats.junit import as_junit
from orz_monitor.loading import load_run
from orz_monitor.records import METRICS, PHASES, EventRecord, StepRecord
from orz_monitor.report.content import gather
from orz_monitor.report.data import as_data
from orz_monitor.report.html import as_html
from orz_monitor.report.markdown import as_markdown
from orz_monitor.testing import write_run

pytestmark = pytest.mark.property

_PLACES = re.compile(r' (?:d|x|y|cx|cy|width|height)="([^"]*)"')
"""Whatever places something on a drawing."""

NAMES = [*sorted(METRICS), "x<y>/&", ""]
FLOATS = st.floats() | st.sampled_from([0.0, 1.0, 0.5, -1.0, 1e308, -1e308, 5e-324])
STEPS = st.builds(
    StepRecord,
    step=st.integers(0, 200),
    time=st.floats(0, 2e9) | FLOATS,
    metrics=st.dictionaries(st.sampled_from(NAMES), FLOATS, max_size=6),
    seconds=st.dictionaries(st.sampled_from([*PHASES]), FLOATS, max_size=3),
)
EVENTS = st.builds(
    EventRecord,
    event=st.sampled_from(["start", "resume", "finish", "error", "interrupted", "checkpoint_saved", "lunch"]),
    time=FLOATS,
    step=st.none() | st.integers(0, 200),
    data=st.dictionaries(st.sampled_from(["recipe", "message", "steps"]), st.text(max_size=9) | FLOATS, max_size=2),
)


@st.composite
def long_runs(draw: st.DrawFn) -> list[StepRecord]:
    """A run long enough for every rule, each metric drawn from a few values."""
    names = draw(st.lists(st.sampled_from(NAMES[:-2]), min_size=1, max_size=4, unique=True))
    num_steps = draw(st.integers(20, 120))
    columns = {name: draw(st.lists(FLOATS, min_size=1, max_size=7)) for name in names}
    return [
        StepRecord(
            step=step,
            time=1e9 + step,
            metrics={name: values[step * len(values) // num_steps] for name, values in columns.items()},
            seconds={"generate": 0.5, "total": 1.0},
        )
        for step in range(num_steps)
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(STEPS | EVENTS, min_size=1, max_size=30) | long_runs(), st.floats(0, 1e10))
def test_any_run_is_judged_and_reported(records: list[StepRecord | EventRecord], now: float) -> None:
    """Rules, formats and reports accept every float and every order of records, and write what parsers read."""
    with TemporaryDirectory() as folder:
        write_run(Path(folder) / "run", records, finished=False)
        verdict = judge(load_run(Path(folder) / "run", now=now))
    checks = [Checked(path=Path("run"), verdict=verdict)]
    content = gather(verdict)
    json.loads(as_json(checks), parse_constant=pytest.fail)
    json.loads(as_data(content), parse_constant=pytest.fail)
    ET.fromstring(as_junit(checks, Severity.ERROR))  # noqa: S314 - our own text
    assert as_markdown(content).startswith("# ")
    assert not re.search(r"nan|inf", " ".join(_PLACES.findall(as_html(content))))
