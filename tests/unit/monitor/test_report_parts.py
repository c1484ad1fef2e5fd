"""Parts of a report: scales, ticks, thinning, facts, text that came from logs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orz_monitor.covered import steps_covered
from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, StepRecord
from orz_monitor.report.charts import MOST_POINTS, Marks, line_chart, thinned, ticks, y_scale
from orz_monitor.report.content import gather
from orz_monitor.report.course import provenance
from orz_monitor.report.escape import escaped, markdown_escaped, with_code
from orz_monitor.report.facts import gather_facts, last_checkpoint_before
from orz_monitor.report.markdown import as_markdown
from orz_monitor.report.overview import header
from orz_monitor.series import Series
from orz_monitor.testing import START, healthy_metrics, step_records, write_run
from orz_monitor.units import duration, shown

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.30000000000000004, "0.3"),
        (0.0031499, "0.00315"),
        (0.00009, "9e-5"),
        (1.0, "1"),
        (99.95, "100"),
        (-12.345, "-12.3"),
        (1234.5, "1234"),
        (45_600.0, "45.6k"),
        (999_999.0, "1M"),
        (-18_000_000.0, "-18M"),
        (2.5e15, "2.5e15"),
        (1e308, "1e308"),
        (5e-324, "4.94e-324"),
        (float("nan"), "NaN"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers_for_people(value: float, text: str) -> None:
    """Three digits, no needless zeros or exponents."""
    assert text == shown(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.003, "<0.01 s"),
        (0.04, "0.04 s"),
        (4.21, "4.2 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (3599, "1 h 00 min"),
        (11100, "3 h 05 min"),
        (190_000, "2 d 4 h"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    """Never 60 seconds or 60 minutes."""
    assert text == duration(seconds)


def test_ticks_are_round() -> None:
    """1, 2 or 5 times a power of ten apart; decades on a logarithmic axis."""
    assert ticks(0.0, 1.05) == [0.0, 0.5, 1.0]
    assert ticks(-0.07, 0.11) == [-0.05, 0.0, 0.05, 0.1]
    assert ticks(0, 99, most=5) == [0, 20, 40, 60, 80]
    assert ticks(1e-6, 1e-3, log=True) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3])


def test_axes_begin_at_zero_where_that_costs_little() -> None:
    """A reward from 0.3 to 1 is drawn from 0, a length from 900 to 1000 is not, four decades are logarithmic."""
    assert y_scale(np.array([0.3, 1.0])).low == 0
    assert y_scale(np.array([900.0, 1000.0])).low > 800
    assert y_scale(np.array([0.01, 100.0])).log
    constant = y_scale(np.array([5.0, 5.0]))
    assert constant.low < 5 < constant.high


def test_thinning_keeps_every_extreme_of_a_long_series() -> None:
    """The one spike in a hundred thousand steps is drawn."""
    values = [0.0] * 100_000
    values[77_777] = 9.0
    points = thinned(list(range(100_000)), values)
    assert len(points) <= MOST_POINTS
    assert (77_777, 9.0) in points
    assert [step for step, _ in points] == sorted(step for step, _ in points)


def test_a_chart_says_what_it_shows_and_where_values_were_not_finite() -> None:
    """A screen reader gets the label, NaN steps get a mark and break nothing."""
    series = Series(name="a", steps=np.arange(20), values=np.array([*np.arange(18.0), np.nan, np.inf]))
    drawing = line_chart(series, Marks(first=0, last=19, restarts=(5,), checkpoints=(10,)), label='a "quoted" <b>')
    assert 'aria-label="a &quot;quoted&quot; &lt;b&gt;"' in drawing
    assert drawing.count('class="nonfinite"') == 2
    assert drawing.count('class="restart"') == 1
    assert drawing.count('class="checkpoint"') == 1


def test_text_from_logs_is_harmless() -> None:
    """Markup, escape sequences and direction overrides do not reach the page."""
    assert escaped("<script>\x1b[31m'x'\u202e\x00") == "&lt;script&gt;&#x27;x&#x27;"
    assert with_code("see `a<b` now") == "see <code>a&lt;b</code> now"
    assert markdown_escaped("a|b\n<c> *d* `e`") == r"a\|b \<c\> \*d\* `e`"


def test_a_metric_that_only_rounding_moves_is_constant(tmp_path: Path) -> None:
    """0.7 and 0.6999999999999998 are the same; Markdown names what its table leaves out."""
    metrics = healthy_metrics(20)
    metrics["policy/entropy"] = np.where(np.arange(20) % 2, 0.7, 0.6999999999999998)
    metrics["policy/kl_ref"] = np.where(np.arange(20) % 2, 0.7, 0.7000001)
    write_run(tmp_path, step_records(metrics))
    content = gather(judge(load_run(tmp_path)))
    constant = {s.name for summaries in content.groups.values() for s in summaries if s.constant}
    assert "policy/entropy" in constant
    assert "policy/kl_ref" not in constant
    assert "policy/entropy 0.7" in as_markdown(content).split("Constant throughout: ")[1]


def test_facts_come_from_records_config_and_environment(tmp_path: Path) -> None:
    """Name, settings, versions, checkpoints and cost are gathered; what is odd in the files is passed over."""
    records = step_records(healthy_metrics(20))
    saved = [EventRecord(event="checkpoint_saved", step=step, time=START) for step in (5, 10, 10)]
    write_run(tmp_path, [*records, *saved])
    (tmp_path / "config.yaml").write_text(
        "# a comment\nname: 'sums'\npolicy:\n  optimizer:\n    lr: 1e-4\n  model: x\ndata:\n  train:\n  - a\n"
        "  - b: c\ngeneration:\n  temperature: 1.0\n: bad\n\ttab: 1\n"
    )
    (tmp_path / "environment.json").write_text(json.dumps({"versions": {"torch": "2.13.0"}, "gpus": [], "n": None}))
    facts = gather_facts(load_run(tmp_path))
    assert facts.title == "sums"
    assert {"name": "sums", "policy.model": "x", "policy.optimizer.lr": "1e-4", "generation.temperature": "1.0"} == (
        dict(facts.settings)
    )
    assert dict(facts.environment) == {"versions.torch": "2.13.0"}
    assert facts.checkpoints == (5, 10)
    assert facts.tokens_per_second == pytest.approx(facts.tokens_trained / 40.0)
    assert (last_checkpoint_before(facts, 10), last_checkpoint_before(facts, 5)) == (5, None)


def test_facts_of_a_bare_records_file(tmp_path: Path) -> None:
    """Without a folder there are no settings, and that is no error."""
    write_run(tmp_path, step_records(healthy_metrics(3)))
    (tmp_path / "environment.json").write_text("{torn")
    facts = gather_facts(load_run(tmp_path / "metrics.jsonl"))
    assert (facts.title, dict(facts.settings), dict(facts.environment)) == ("made-up", {}, {})
    assert dict(gather_facts(load_run(tmp_path)).environment) == {}


def test_markdown_says_where_a_finding_is_and_when_to_ignore_it(tmp_path: Path) -> None:
    """As text and the page do; of a log without times no duration is told."""
    path = tmp_path / "train.log"
    line = "step:{} - actor/pg_loss:0.01 - actor/pg_clipfrac:0.0 - critic/score/mean:0.{}\n"
    path.write_text("".join(line.format(step, 400 + step % 7) for step in range(1, 41)), encoding="utf-8")
    content = gather(judge(load_run(path)))
    lines = as_markdown(content).splitlines()
    assert "steps 1 to 40, unfinished: 1 note." == lines[2]
    assert "- train.log:1" in lines
    assert any(text.startswith("When to ignore it: With one update on each batch") for text in lines)
    assert "not known: no record has a time" in provenance(content)
    assert " took " not in header(content)


def test_steps_between_the_logged_ones_count(tmp_path: Path) -> None:
    """TRL with logging_steps=10: 40 rows of 2 s a step are 400 steps and 800 s, and phases take as much."""
    line = "{'loss': 0.01, 'learning_rate': 1e-06, 'reward': 0.3, 'step_time': 2.0, 'epoch': 0.1}\n"
    text = "".join(f"  4%|4 | {step}/1000 [0:10:00<1:00:00, 2.00s/it]{line}" for step in range(10, 401, 10))
    (tmp_path / "train.log").write_text(text, encoding="utf-8")
    content = gather(judge(load_run(tmp_path / "train.log")))
    assert (400, 800.0) == (content.facts.num_steps, content.facts.train_s)
    assert {"other": 800.0} == dict(content.phases)
    assert "400 steps took 13 min" in header(content)


def test_seconds_of_all_steps_of_a_row_are_not_multiplied(tmp_path: Path) -> None:
    """Where the clock says that ten steps together took what a row says."""
    write_run(
        tmp_path,
        [
            StepRecord(step=step, time=START + step, metrics={"reward/mean": 0.5}, seconds={"total": 10.0})
            for step in range(10, 101, 10)
        ],
    )
    facts = gather_facts(load_run(tmp_path))
    assert (100, 100.0) == (facts.num_steps, facts.train_s)


@pytest.mark.parametrize(
    ("steps", "covered"),
    [
        ([], []),
        ([7], [1]),
        ([0, 1, 2], [1, 1, 1]),
        ([1, 10, 20, 30], [1, 9, 10, 10]),
        ([10, 20, 30, 90, 100], [10, 10, 10, 10, 10]),
        ([500, 501, 502, 900], [1, 1, 1, 1]),
    ],
)
def test_steps_that_a_row_stands_for(steps: list[int], covered: list[int]) -> None:
    """Those since the row before it, and no more than usual where a log has a hole or begins late."""
    assert covered == steps_covered(np.array(steps, dtype=np.int64)).tolist()
