"""Rules of how long steps take, and of silence: by the clock of the records, by the trainer's word, or by neither."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import Verdict, judge
from orz_monitor.findings import Finding
from orz_monitor.loading import load_run
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

BEGIN = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def verl_lines(seconds: Sequence[float | None], *, clock_s: Sequence[float] = ()) -> str:
    """Return a verl step for each number of seconds it says it took; each after so many seconds by the clock."""
    lines, passed = [], 0.0
    for index, taken in enumerate(seconds):
        said = f" - timing_s/step:{taken} - timing_s/gen:{taken * 0.9:.2f}" if taken is not None else ""
        passed += clock_s[index] if clock_s else 0.0
        stamp = f"{BEGIN + dt.timedelta(seconds=passed):%Y-%m-%d %H:%M:%S} " if clock_s else ""
        lines.append(f"{stamp}step:{index + 1} - actor/pg_loss:0.01{index} - critic/score/mean:0.3{said}\n")
    return "".join(lines)


def judged(folder: Path, text: str) -> Verdict:
    path = folder / "train.log"
    path.write_text(text)
    return judge(load_run(path))


def found(verdict: Verdict, code: str) -> Finding | None:
    return next((finding for finding in verdict.findings if finding.code == code), None)


def unjudged(verdict: Verdict) -> dict[str, tuple[str, str]]:
    return {item.code: (item.reason, item.remedy) for item in verdict.not_evaluated}


def test_one_long_step_is_found_by_what_the_trainer_says(tmp_path: Path) -> None:
    """A log without times has a step of 50 minutes between steps of one."""
    finding = found(judged(tmp_path, verl_lines([60.0] * 30 + [3000.0] + [60.0] * 30)), "slow_step")
    assert finding is not None
    assert (Severity.WARN, 31, 31, 31) == (finding.severity, finding.first_step, finding.last_step, finding.line)
    assert finding.message == (
        "One step took more than 10 times the usual 1 min; the longest, step 31, took 50 min, most of it in generate."
    )
    (evidence,) = finding.evidence
    assert ("seconds.total", 3000.0, "step 31", 60.0) == (
        evidence.metric,
        evidence.observed,
        evidence.observed_is,
        evidence.baseline,
    )


def test_the_first_step_and_that_after_a_restart_warm_up(tmp_path: Path) -> None:
    """They load and compile for half an hour, which is no slow step; the same later is one."""
    text = verl_lines([1800.0] + [60.0] * 19)
    again = verl_lines([60.0] * 10 + [1800.0] + [60.0] * 9).splitlines(keepends=True)
    resumed = text + "Resuming from checkpoints/global_step_10\nSetting global step to 10\n" + "".join(again[10:])
    verdict = judged(tmp_path, resumed)
    assert (11,) == verdict.run.restarts
    assert None is found(verdict, "slow_step")
    assert None is not found(judged(tmp_path, "".join(again)), "slow_step")


def test_the_clock_counts_before_the_trainers_word(tmp_path: Path) -> None:
    """What a step lost outside of what its trainer times is lost, too."""
    clock_s = [60.0] * 30 + [3000.0] + [60.0] * 9
    finding = found(judged(tmp_path, verl_lines([60.0] * 40, clock_s=clock_s)), "slow_step")
    assert finding is not None
    assert ("seconds between records", 31) == (finding.evidence[0].metric, finding.first_step)


@pytest.mark.parametrize("by_clock", [False, True], ids=["by the trainer's word", "by the clock"])
def test_steps_that_become_slow_are_found_by_either(tmp_path: Path, *, by_clock: bool) -> None:
    """From step 41 on each takes thrice as long."""
    taken = [60.0] * 40 + [180.0] * 20
    text = verl_lines([None] * 60, clock_s=taken) if by_clock else verl_lines(taken)
    finding = found(judged(tmp_path, text), "slow_steps")
    assert finding is not None
    assert (41, 60) == (finding.first_step, finding.last_step)
    assert "3 times as long as before" in finding.message


@pytest.mark.parametrize(
    ("generate_s", "named"),
    [(145.0, ", most of it in generate."), (25.0, "."), (40.0, "."), (89.0, "."), (91.0, ", most of it in generate.")],
    ids=["all of it", "it fell", "a tenth", "less than half", "more than half"],
)
def test_a_phase_is_named_where_it_explains_slow_steps(tmp_path: Path, generate_s: float, named: str) -> None:
    """Steps lose 120 of 180 seconds from step 41 on, and generating took 30 of them before."""
    text = verl_lines([60.0] * 40 + [180.0] * 20)
    for before_s, after_s in ((54.0, 30.0), (162.0, generate_s)):
        text = text.replace(f"timing_s/gen:{before_s:.2f}", f"timing_s/gen:{after_s:.2f}")
    finding = found(judged(tmp_path, text), "slow_steps")
    assert finding is not None
    assert f"Steps took 3 min in the steps 41 to 60, 3 times as long as before{named}" == finding.message


def test_without_either_the_rules_say_what_they_miss(tmp_path: Path) -> None:
    """They are no pass, and say how a log gets its times; neither is a stall judged without a clock."""
    verdict = judged(tmp_path, verl_lines([None] * 60))
    reasons = unjudged(verdict)
    assert "not logged: times of records, or seconds/total" == reasons["slow_step"][0]
    assert reasons["slow_step"] == reasons["slow_steps"]
    assert "not logged: times of records" == reasons["stall"][0]
    assert "`ts '%F %T'`" in reasons["stall"][1]
    assert {"slow_step", "slow_steps", "stall"}.isdisjoint(rule.code for rule in verdict.passed)


def test_what_is_said_or_timed_is_judged(tmp_path: Path) -> None:
    """With seconds alone steps are judged and the silence is not; with times both are."""
    said = judged(tmp_path, verl_lines([60.0] * 60))
    assert {"slow_step", "slow_steps"} <= {rule.code for rule in said.passed}
    assert "stall" in unjudged(said)
    timed = judged(tmp_path, verl_lines([None] * 60, clock_s=[60.0] * 60))
    assert {"slow_step", "slow_steps", "stall"}.isdisjoint(unjudged(timed))


@pytest.mark.parametrize(
    ("step_s", "silence_s", "stalls"),
    [
        (600.0, 1790.0, False),
        (600.0, 1810.0, True),
        (60.0, 590.0, False),
        (60.0, 610.0, True),
        (2.0, 590.0, False),
        (2.0, 610.0, True),
    ],
)
def test_a_stall_is_three_times_the_step_time_from_ten_minutes_on(
    tmp_path: Path, step_s: float, silence_s: float, *, stalls: bool
) -> None:
    """Above the floor three times the step time counts; below it ten minutes do, however short the steps are."""
    records = step_records(healthy_metrics(60), step_s=step_s)
    write_run(tmp_path, records, finished=False)
    codes = {finding.code for finding in judge(load_run(tmp_path, now=records[-1].time + silence_s)).findings}
    assert stalls == ("stall" in codes)


def test_a_pause_between_two_attempts_is_no_step(tmp_path: Path) -> None:
    """Steps of a minute, a restart after eight hours, and three hours of silence: the run hangs, as one without it."""
    for pause_s in (60.0, 8 * 3600.0):
        first = verl_lines([None] * 7, clock_s=[60.0] * 7)
        again = verl_lines([None] * 12, clock_s=[60.0] * 4 + [180.0 + pause_s] + [60.0] * 7).splitlines(keepends=True)
        path = tmp_path / "train.log"
        path.write_text(first + "".join(again[4:]))
        last = load_run(path).last_progress
        assert last is not None
        verdict = judge(load_run(path, now=last + 3 * 3600))
        assert ((5,), 12) == (verdict.run.restarts, len(verdict.run.times.finite()))
        stall = found(verdict, "stall")
        assert stall is not None
        assert (Severity.WARN, 60.0) == (stall.severity, stall.evidence[0].baseline)


AREAL = """\
(AReaL) 20260725-13:{minute:02d}:09.653 StatsLogger INFO: Epoch 1/1 Step {step}/46 Train step {step}/46 done.
(AReaL) 20260725-13:{minute:02d}:09.654 StatsLogger INFO: Stats (1/1):
╒═══════════════════════════════╤════════════╕
│ ppo_actor/update/entropy/avg  │ 2.2102e-01 │
├───────────────────────────────┼────────────┤
│ ppo_actor/task_reward/avg     │ 2.6204e-01 │
╘═══════════════════════════════╧════════════╛
"""


@pytest.mark.parametrize(
    ("minutes", "severity"), [(9, None), (11, Severity.WARN), (29, Severity.WARN), (40, Severity.ERROR)]
)
def test_silence_of_areal_is_an_error_since_it_says_when_it_is_done(
    tmp_path: Path, minutes: int, severity: Severity | None
) -> None:
    """A warning from ten minutes on and an error from three times that; none after its last words."""
    text = "".join(AREAL.format(minute=step, step=step) for step in range(1, 31))
    path = tmp_path / "train.log"
    path.write_text(text, encoding="utf-8")
    last = load_run(path).last_progress
    assert last is not None
    stall = found(judge(load_run(path, now=last + 60 * minutes)), "stall")
    assert severity == (stall.severity if stall else None)
    done = "(AReaL) 20260725-13:31:09.653 StatsLogger INFO: Training completes! Total time elapsed 1800.00.\n"
    path.write_text(text + done, encoding="utf-8")
    assert None is found(judge(load_run(path, now=last + 60 * minutes)), "stall")
