"""How a run ends, or does not: silence, crashes, interruptions, lost time, torn records."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orz_cli.findings import Severity, Status
from orz_monitor.engine import Verdict, judge
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord
from orz_monitor.run import State
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


def severities(verdict: Verdict) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in reversed(verdict.findings)}


@pytest.mark.parametrize(("silence_s", "severity"), [(590.0, None), (700.0, Severity.WARN), (5000.0, Severity.ERROR)])
def test_silence_is_a_stall_only_in_a_run_that_goes_on(
    tmp_path: Path, silence_s: float, severity: Severity | None
) -> None:
    """Ten minutes of silence are a warning, half an hour an error; a finished run may rest for ever."""
    records = step_records(healthy_metrics(60))
    now = records[-1].time + silence_s
    write_run(tmp_path / "on", records, finished=False)
    assert severity == severities(judge(load_run(tmp_path / "on", now=now))).get("stall")
    write_run(tmp_path / "done", records)
    assert severities(judge(load_run(tmp_path / "done", now=now))) == {}


def test_slow_steps_widen_the_patience(tmp_path: Path) -> None:
    """A run of hour-long steps is not stalled after two; three times its step time is too long."""
    records = step_records(healthy_metrics(60), step_s=3600)
    write_run(tmp_path, records, finished=False)
    assert severities(judge(load_run(tmp_path, now=records[-1].time + 2.5 * 3600))) == {}
    late = severities(judge(load_run(tmp_path, now=records[-1].time + 6 * 3600)))
    assert {"stall": Severity.WARN} == late


def test_a_user_may_stop_a_run(tmp_path: Path) -> None:
    """An interrupted run is neither stalled nor crashed."""
    records = step_records(healthy_metrics(60))
    write_run(tmp_path, [*records, EventRecord(event="interrupted", time=records[-1].time)], finished=False)
    assert severities(judge(load_run(tmp_path, now=START + 1e6))) == {}


@pytest.mark.parametrize(
    ("framework", "hours", "severity", "title"),
    [
        ("orz-train", 23, Severity.ERROR, "The run has stopped"),
        ("orz-train", 25, Severity.WARN, "The log ends unfinished"),
        ("orz-train", 24 * 6, Severity.WARN, "The log ends unfinished"),
        ("orz-train", 24 * 8, Severity.INFO, "The log ends unfinished"),
        ("orz", 24 * 642, Severity.INFO, "The log ends unfinished"),
        ("verl", 23, Severity.WARN, "The run has stopped"),
        ("verl", 24 * 642, Severity.INFO, "The log ends unfinished"),
    ],
)
def test_a_healthy_log_that_was_kept_or_cut_is_no_error(
    tmp_path: Path, framework: str, hours: int, severity: Severity, title: str
) -> None:
    """A log of the past, or of a trainer that may end without a word, does not fail a check."""
    records = step_records(healthy_metrics(100))
    write_run(tmp_path, records, finished=False)
    run = load_run(tmp_path, now=records[-1].time + hours * 3600)
    (finding,) = judge(dataclasses.replace(run, framework=framework)).findings
    assert ("stall", severity, title) == (finding.code, finding.severity, finding.title)


def test_a_note_on_an_old_log_looks_for_no_living_process(tmp_path: Path) -> None:
    """Months later nobody can ask a process where it waits; on Monday one may, of a run that hung on Friday."""
    records = step_records(healthy_metrics(60))
    write_run(tmp_path, records, finished=False)

    def checks(days: int) -> str:
        (found,) = judge(load_run(tmp_path, now=records[-1].time + days * 86_400)).findings
        return " ".join(cause.confirm for cause in found.causes)

    assert "py-spy" in checks(3)
    assert "py-spy" not in checks(90)


def test_a_run_of_very_long_steps_is_not_old_after_a_week(tmp_path: Path) -> None:
    """With steps of a day three days are patience, up to nine a warning, and later a note."""
    records = step_records(healthy_metrics(60), step_s=86_400)
    write_run(tmp_path, records, finished=False)
    at = {day: severities(judge(load_run(tmp_path, now=records[-1].time + day * 86_400))) for day in (2, 8, 11)}
    assert {2: {}, 8: {"stall": Severity.WARN}, 11: {"stall": Severity.INFO}} == at


def test_a_stall_before_the_first_step_says_nothing_of_steps(tmp_path: Path) -> None:
    """There is no step time to compare the silence with."""
    write_run(tmp_path, [], finished=False)
    (finding,) = judge(load_run(tmp_path, now=START + 7200)).findings
    assert "Nothing was recorded for 2 h 00 min before its first step, and the run has not finished." == finding.message
    assert None is finding.evidence[0].baseline


def test_a_failed_run_is_a_crash_not_a_stall(tmp_path: Path) -> None:
    """One finding, with the error's own words and the place of the traceback."""
    console = 'Traceback (most recent call last):\n  File "a.py", line 1\nOSError: [Errno 28] No space left\n'
    write_run(tmp_path, step_records(healthy_metrics(60)), finished=False, console=console)
    verdict = judge(load_run(tmp_path, now=START + 1e6))
    assert severities(verdict) == {"crash": Severity.ERROR}
    assert "No space left" in verdict.findings[0].message
    assert (verdict.findings[0].file, verdict.findings[0].line) == (tmp_path / "console.log", 3)


@pytest.mark.parametrize("words", ["Exception ignored in: <function x>", "--- Logging error ---"])
def test_an_exception_that_python_ignores_is_no_end_of_a_console_log(tmp_path: Path, words: str) -> None:
    """The run goes on after it; without these words the same traceback is its end."""
    console = f'{words}\nTraceback (most recent call last):\n  File "a.py", line 1\nOSError: x\n'
    write_run(tmp_path, step_records(healthy_metrics(60)), finished=False, console=console)
    assert State.UNFINISHED is load_run(tmp_path).state
    (tmp_path / "console.log").write_text(console.removeprefix(words + "\n"))
    assert State.FAILED is load_run(tmp_path).state


def test_an_error_before_the_first_step_fails_the_check(tmp_path: Path) -> None:
    """A run that never took a step but said why is a failed run, not an unreadable one."""
    write_run(tmp_path, [EventRecord(event="error", time=START, data={"message": "no such model"})], finished=False)
    verdict = judge(load_run(tmp_path))
    assert verdict.status() is Status.FAILED
    assert "before its first step" in verdict.findings[0].message


def test_a_run_that_has_just_started_is_inconclusive(tmp_path: Path) -> None:
    """Without a metric, silence is no pass."""
    write_run(tmp_path, [], finished=False)
    assert judge(load_run(tmp_path, now=START + 1)).status() is Status.INCONCLUSIVE


def test_one_long_step_names_its_phase(tmp_path: Path) -> None:
    """An hour lost in a save is a warning that says so; a restart's gap is none."""
    records = step_records(healthy_metrics(40))
    late = [dataclasses.replace(r, time=r.time + 3600 * (r.step >= 30)) for r in records]
    late[30] = dataclasses.replace(late[30], seconds={"generate": 1.0, "save": 3600.0, "total": 3602.0})
    write_run(tmp_path / "slow", late)
    (finding,) = judge(load_run(tmp_path / "slow")).findings
    assert ("slow_step", Severity.WARN, 30) == (finding.code, finding.severity, finding.first_step)
    assert "save" in finding.message
    resumed = [*late[:30], EventRecord(event="resume", time=late[30].time - 2, step=29), *late[30:]]
    write_run(tmp_path / "resumed", resumed)
    assert judge(load_run(tmp_path / "resumed")).findings == ()


def test_damaged_lines_are_reported_and_torn_ones_noted(tmp_path: Path) -> None:
    """A kill's torn line is information; garbage is a warning."""
    write_run(tmp_path, step_records(healthy_metrics(5)))
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b"\n" + whole)
    assert severities(judge(load_run(tmp_path)))["damaged_records"] is Severity.INFO
    path.write_bytes(b"garbage\n" + whole)
    assert severities(judge(load_run(tmp_path)))["damaged_records"] is Severity.WARN
