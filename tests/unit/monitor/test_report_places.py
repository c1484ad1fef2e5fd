"""Log excerpts, and the table of checkpoints: which was best, which was the last good one."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from orz_cli.findings import Severity
from orz_monitor.engine import Verdict, judge
from orz_monitor.findings import Evidence, Finding
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord
from orz_monitor.report.content import Content, gather
from orz_monitor.report.excerpts import MOST_CHARACTERS, cut_out, excerpts_of, lines_of
from orz_monitor.report.how_to_log import how_to_log
from orz_monitor.report.panels import MOST_CHARTS, metrics, points_of_a_chart
from orz_monitor.report.saves import MOST_ROWS, saves, saves_table
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


def finding(path: Path, line: int, *words: str) -> Finding:
    evidence = tuple(Evidence(metric=word, observed=1.0, observed_is="x") for word in words)
    return Finding(
        code="c", severity=Severity.ERROR, title="t", message="m", causes=(), evidence=evidence, file=path, line=line
    )


def test_a_finding_cites_the_line_that_its_evidence_stands_on(tmp_path: Path) -> None:
    """In the second of two files; and not the first line of the step, where another line holds the metric."""
    folder = tmp_path / "two"
    folder.mkdir()
    line = "step:{} - critic/score/mean:0.5 - actor/pg_loss:{}\n"
    (folder / "a.log").write_text("".join(line.format(step, 0.1) for step in range(1, 21)))
    (folder / "b.log").write_text("".join(line.format(n, "nan" if n == 30 else 0.1) for n in range(21, 41)))
    run = load_run(folder)
    assert [(f.file, f.line) for f in judge(run).findings if f.code == "nonfinite"] == [(folder / "b.log", 10)]
    assert (folder / "a.log", 20) == run.place_of(20)
    assert (folder / "b.log", 1) == run.place_of(21, "no such metric")
    path = tmp_path / "apart.log"
    apart = "step:{0} - critic/score/mean:0.5\nstep:{0} - actor/pg_loss:{1}\n"
    path.write_text("".join(apart.format(n, "nan" if n == 7 else 0.1) for n in range(1, 21)))
    assert [(f.file, f.line) for f in judge(load_run(path)).findings if f.code == "nonfinite"] == [(path, 14)]


def test_three_lines_on_either_side(tmp_path: Path) -> None:
    """At the beginning and the end of a file there are fewer; a compressed log is read as any other."""
    text = "".join(f"line {number}\n" for number in range(1, 21))
    path, packed = tmp_path / "a.log", tmp_path / "a.log.gz"
    path.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    found = excerpts_of([finding(path, 10), finding(path, 2), finding(packed, 20)])
    assert tuple(f"line {n}" for n in range(7, 14)) == found[path, 10].lines
    assert (7, 10) == (found[path, 10].first, found[path, 10].marked)
    assert tuple(f"line {n}" for n in range(1, 6)) == found[path, 2].lines
    assert tuple(f"line {n}" for n in range(17, 21)) == found[packed, 20].lines


def test_no_excerpt_where_there_is_no_text(tmp_path: Path) -> None:
    """A file that has gone, a line beyond its end, binary data."""
    (tmp_path / "short").write_text("one\n")
    (tmp_path / "binary").write_bytes(b"\0\0\n" * 10)
    gone = [finding(tmp_path / "gone", 1), finding(tmp_path / "short", 5), finding(tmp_path / "binary", 3)]
    assert {} == excerpts_of(gone)


def test_lines_are_found_across_chunks() -> None:
    """Whatever the pieces in which a file is read."""
    text = b"first\nsecond\n\nfourth"
    pieces = (text[at : at + 3] for at in range(0, len(text), 3))
    assert {1: b"first", 3: b"", 4: b"fourth"} == lines_of(pieces, {1, 3, 4, 9})


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_compressed_log_that_ends_early_has_the_lines_that_are_whole(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    """The report of a file that a kill or a full disk has cut shows what led to the cut."""
    noise = os.urandom(300_000).hex()
    path = tmp_path / "a.log.packed"
    path.write_bytes(compress("".join(f"line {number}\n" for number in range(1, 21)).encode() + noise.encode())[:-20])
    assert tuple(f"line {n}" for n in range(7, 14)) == excerpts_of([finding(path, 10)])[path, 10].lines


def test_a_long_line_is_cut_around_the_metric() -> None:
    """The first of the words that it has is in view, terminal commands are not."""
    line = "x" * 5000 + "\x1b[31mpolicy/kl_ref\x1b[0m: inf" + "y" * 5000
    cut = cut_out(line, ("policy/loss", "policy/kl_ref"))
    assert "policy/kl_ref: inf" in cut
    assert cut.startswith("…x")
    assert cut.endswith("y…")
    assert len(cut) == MOST_CHARACTERS + 2
    assert "short" == cut_out("short", ("nothing",))


def content_of(folder: Path, *saved: int, removed: tuple[int, ...] = (), onset: int | None = None) -> Content:
    """A run of 60 steps, evaluated every ten, with checkpoints; optionally a finding from a step on."""
    events = [EventRecord(event="checkpoint_saved", step=step, time=START) for step in saved]
    events += [EventRecord(event="checkpoint_removed", step=step, time=START) for step in removed]
    run = load_run(write_run(folder, [*step_records(healthy_metrics(60)), *events]))
    found: tuple[Finding, ...] = ()
    if onset is not None:
        found = (
            Finding(
                code="c",
                severity=Severity.WARN,
                title="t",
                message="m",
                causes=(),
                first_step=onset,
                last_step=onset + 5,
            ),
        )
    return gather(Verdict(run=run, findings=found, passed=(), not_evaluated=()))


def test_the_last_good_checkpoint_comes_before_the_first_finding(tmp_path: Path) -> None:
    """A checkpoint at the step where it began is no good one; one that was removed is none at all."""
    rows = {row.step: row for row in saves(content_of(tmp_path, 20, 30, 40, 50, removed=(30,), onset=40))}
    assert rows[20].remarks == ("last checkpoint before the first finding, step 40",)
    assert rows[40].remarks == rows[50].remarks == ("after a finding began",)
    assert 30 not in rows
    assert not rows[9].saved  # evaluated only


def test_the_best_evaluation_is_named(tmp_path: Path) -> None:
    """By held-out accuracy; without a finding nothing is called good or bad."""
    content = content_of(tmp_path, 59)
    accuracy = content.run.series("eval/held-out/accuracy")
    best = int(accuracy.steps[np.argmax(accuracy.values)])
    remarks = {row.step: row.remarks for row in saves(content) if row.remarks}
    assert {best: ("best held-out, held-out",)} == remarks


def test_many_checkpoints_make_a_short_table(tmp_path: Path) -> None:
    """At most so many rows, the last good one among them; what is left out is said."""
    content = content_of(tmp_path, *range(60), onset=33)
    assert 60 == len(saves(content))
    table = saves_table(content)
    assert table.count("<tr") <= MOST_ROWS + 1
    assert "last checkpoint before the first finding, step 33" in table
    assert "more rows are not shown" in table


def test_a_run_without_checkpoints_has_no_table(tmp_path: Path) -> None:
    """Nor an empty one."""
    run = load_run(write_run(tmp_path, step_records({"reward/mean": np.arange(5.0)})))
    assert "" == saves_table(gather(judge(run)))


def test_hundreds_of_metrics_still_make_a_small_page(tmp_path: Path) -> None:
    """Fewer points a chart, and a list instead of charts beyond a number: below a megabyte for 2,000 steps."""
    rng = np.random.default_rng(0)
    many = {f"mine/{index}": rng.standard_normal(2000) for index in range(400)}
    content = gather(judge(load_run(write_run(tmp_path, step_records(many)))))
    page = metrics(content)
    assert MOST_CHARTS == page.count("<figure")
    assert points_of_a_chart(content) < 150
    assert "280 more, with their last values" in page
    assert len(page) < 1_000_000


def test_how_to_log_is_said_in_the_trainers_own_words() -> None:
    """Our settings, what another trainer or a user's dialect prints it as, or that it is not known to."""
    assert "train a critic: `algorithm.kind=ppo`" == how_to_log("critic/loss", "orz-train")
    assert "write return/mean into metrics.jsonl" == how_to_log("return/mean", "orz-train")
    assert "`actor/entropy`" in how_to_log("policy/entropy", "verl")
    assert "calculate_log_probs=True" in how_to_log("mismatch/logprob_abs_mean", "verl")  # as in `check`
    assert "verl is not known to log it" == how_to_log("storage/free_bytes/<node>", "verl")
    assert "log it as `kl`" == how_to_log("policy/kl_ref", "generic")
    assert "no plain name of it is known" in how_to_log("rollout/zero_variance_frac", "generic")
    assert "print it, and give its key a meaning in the dialect mine" == how_to_log("policy/kl_ref", "mine")
    assert "set `kl: true`" == how_to_log("policy/kl_ref", "mine", {"policy/kl_ref": "set `kl: true`."})
