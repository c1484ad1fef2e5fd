"""Updates that DeepSpeed skipped under a trainer: counted by the run's steps, and told once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from orz_cli.findings import Severity
from orz_monitor.dialects.skipped import undo_summing
from orz_monitor.engine import Verdict, judge
from orz_monitor.loading import load_run
from orz_monitor.log import Row

pytestmark = pytest.mark.unit

NUM_STEPS = 40
UPDATES = 4
"""Optimizer steps in a step of the run."""
PREFIX = "(WorkerDict pid=6) [2025-02-22 10:11:12,345] [INFO] [logging.py:128:log_dist] [Rank 0] "
OVERFLOW = "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768"


def verl(step: int, grad_norm: str = "0.5") -> str:
    return f"step:{step} - actor/pg_loss:0.25 - actor/grad_norm:{grad_norm} - critic/score/mean:0.{50 + step % 3}"


def openrlhf(step: int, grad_norm: str = "0.5") -> str:
    return f"Global step {step}: {{'policy_loss': 0.25, 'actor_grad_norm': {grad_norm}, 'reward': 0.{50 + step % 3}}}"


def engine(update: int, so_far: int) -> str:
    return f"{PREFIX}step={update}, skipped={so_far}, lr=[1e-06], mom=[(0.9, 0.95)]"


def log(
    trainer: Callable[[int, str], str],
    skips: dict[int, int],
    *,
    every: int = 0,
    overflows: bool = True,
    nan: bool = False,
) -> list[str]:
    """Make a log: `skips` is the run's step to how many of its updates are skipped, the first ones.

    Every so many updates the engine says how many it has skipped so far; and of each, if told so, that it overflowed.
    """
    lines, so_far = [], 0
    for step in range(1, NUM_STEPS + 1):
        for number in range(UPDATES):
            if number < skips.get(step, 0):
                so_far += 1
                lines += [OVERFLOW] if overflows else []
            update = (step - 1) * UPDATES + number + 1
            if every and update % every == 0:
                lines.append(engine(update, so_far))
        lines.append(trainer(step, "nan" if nan and step in skips else "0.5"))
    return lines


def judged(path: Path, lines: Sequence[str]) -> Verdict:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return judge(load_run(path))


def counted(verdict: Verdict, name: str = "policy/skipped_updates") -> dict[int, float]:
    series = verdict.run.series(name)
    return {int(s): float(v) for s, v in zip(series.steps, series.values, strict=True) if v}


def loud(verdict: Verdict) -> list[tuple[str, Severity]]:
    return [(f.code, f.severity) for f in verdict.findings if f.severity is not Severity.INFO]


@pytest.mark.parametrize("trainer", [verl, openrlhf])
@pytest.mark.parametrize(("every", "overflows"), [(1, True), (2, True), (1, False), (0, True)])
def test_what_was_skipped_counts_in_the_runs_steps(
    tmp_path: Path, trainer: Callable[[int, str], str], every: int, *, overflows: bool
) -> None:
    """Three of the updates of step 35, one of step 38: by the count, by the overflows, or by both it is the same."""
    verdict = judged(tmp_path / "a.log", log(trainer, {35: 3, 38: 1}, every=every, overflows=overflows))
    assert counted(verdict) == {35: 3, 38: 1}
    assert verdict.run.steps.tolist() == list(range(1, NUM_STEPS + 1))
    assert loud(verdict) == [("skipped_updates", Severity.WARN)]
    (finding,) = (f for f in verdict.findings if f.code == "skipped_updates")
    assert finding.message == "4 policy updates were skipped as non-finite between steps 35 and 38."


@pytest.mark.parametrize("every", [0, 1])
def test_a_gradient_that_overflowed_is_told_once(tmp_path: Path, every: int) -> None:
    """The trainer's own norm is NaN in these steps: that is the update that was skipped, and nothing else."""
    verdict = judged(tmp_path / "a.log", log(verl, {35: 1, 38: 1}, every=every, nan=True))
    assert loud(verdict) == [("skipped_updates", Severity.WARN)]
    nothing_skipped = judged(tmp_path / "b.log", [verl(s, "nan" if s == 35 else "0.5") for s in range(1, 41)])
    assert [f.code for f in nothing_skipped.findings if f.code in {"nonfinite", "skipped_updates"}] == ["nonfinite"]


@pytest.mark.parametrize(
    ("steps", "severity"),
    [
        (range(1, 6), Severity.INFO),
        (range(36, 39), Severity.ERROR),
        ((33, 35, 37), Severity.WARN),
    ],
    ids=["at the start", "in a row", "now and then"],
)
def test_a_loss_scale_that_is_sought_is_no_fault(tmp_path: Path, steps: Sequence[int], severity: Severity) -> None:
    """It begins too large, so that the first updates are skipped by design; later ones in a row are an error."""
    verdict = judged(tmp_path / "a.log", log(verl, dict.fromkeys(steps, 1)))
    (finding,) = (f for f in verdict.findings if f.code == "skipped_updates")
    assert finding.severity is severity
    assert "loss scale" in finding.causes[0].what


@pytest.mark.parametrize(
    ("num_updates", "skips", "severity"),
    [
        (200, range(1, 201), Severity.ERROR),
        (100, [*range(1, 6), *range(40, 101)], Severity.ERROR),
        (200, range(1, 18), Severity.WARN),
    ],
    ids=["all", "from the middle on", "while a scale is sought"],
)
@pytest.mark.parametrize("every", [0, 10])
def test_the_search_for_a_scale_ends_by_steps(
    tmp_path: Path, every: int, num_updates: int, skips: Sequence[int], severity: Severity
) -> None:
    """Twenty steps are spared, not twenty lines of the count: it stands in every tenth step, 200 steps of it."""
    lines: list[str] = []
    so_far = 0
    for step in range(1, num_updates + 1):
        if step in skips:
            so_far += 1
            lines.append(OVERFLOW)
        if every and step % every == 0:
            lines.append(engine(step, so_far))
        lines.append(verl(step))
    (finding,) = (f for f in judged(tmp_path / "a.log", lines).findings if f.code == "skipped_updates")
    assert finding.evidence[0].observed == len(skips)
    assert finding.severity is (Severity.INFO if severity is Severity.WARN else severity)  # long over


@pytest.mark.parametrize(("so_far", "severity"), [(20, Severity.INFO), (40, Severity.WARN)])
def test_no_more_updates_are_spared_than_a_scale_takes(tmp_path: Path, so_far: int, severity: Severity) -> None:
    """Of 40 that were skipped in the first 10 steps, 20 are no search any more: an error, were it not over."""
    skips = dict.fromkeys(range(1, 11), so_far // 10)
    (finding,) = (f for f in judged(tmp_path / "a.log", log(verl, skips)).findings if f.code == "skipped_updates")
    assert finding.severity is severity


def test_an_unknown_trainer_above_the_engine(tmp_path: Path) -> None:
    """`loss scale` in the line of an overflow is no loss of the trainer: the line is the engine's."""
    lines: list[str] = []
    for step in range(1, NUM_STEPS + 1):
        lines += [OVERFLOW] * (step in {5, 6}) + [f"iteration {step}: loss = 0.{step % 7 + 1}, reward = 0.25"]
    verdict = judged(tmp_path / "a.log", lines)
    assert counted(verdict) == {5: 1, 6: 1}
    assert verdict.run.framework == "generic"
    assert set(verdict.run.coverage.unrecognised) == set()


def test_an_engine_alone_whose_scale_is_sought(tmp_path: Path) -> None:
    """Nobody prints a loss: the steps are those of the engine, and its first overflows no fault."""
    lines: list[str] = []
    for step in range(1, 101):
        lines += [OVERFLOW] * (step <= 14) + [engine(step, min(step, 14))] * (step % 10 == 0)
    verdict = judged(tmp_path / "a.log", lines)
    assert verdict.run.steps.tolist() == list(range(10, 101, 10))
    assert counted(verdict) == {10: 10, 20: 4}
    assert [f.severity for f in verdict.findings if f.code == "skipped_updates"] == [Severity.INFO]


def test_a_finding_points_to_the_overflow(tmp_path: Path) -> None:
    """The line of the log is that of the first one."""
    lines = log(verl, {35: 1})
    (finding,) = (f for f in judged(tmp_path / "a.log", lines).findings if f.code == "skipped_updates")
    assert finding.line == lines.index(OVERFLOW) + 1


def test_without_a_word_of_it_the_rule_is_not_evaluated(tmp_path: Path) -> None:
    """No count and no overflow: nobody knows whether an update was skipped."""
    verdict = judged(tmp_path / "a.log", log(verl, {}))
    assert "skipped_updates" in {item.code for item in verdict.not_evaluated}
    verdict = judged(tmp_path / "b.log", log(verl, {}, every=1))
    assert "skipped_updates" in {rule.code for rule in verdict.passed}


def test_a_restart_undoes_what_was_skipped_in_its_steps(tmp_path: Path) -> None:
    """Steps 31 to 40 are done again: what was skipped in 35 does not count, what was in 36 of the second time does."""
    first, again = log(verl, {10: 1, 35: 2}, every=1), log(verl, {10: 1, 36: 1}, every=1)
    begins = again.index(verl(30)) + 1
    verdict = judged(tmp_path / "a.log", [*first, *again[begins:]])
    assert verdict.run.restarts == (31,)
    assert counted(verdict) == {10: 1, 36: 1}


def test_two_engines_of_one_process(tmp_path: Path) -> None:
    """Who prints second at the same optimizer step counts for itself: 2 so far, and 0, are not 2 in every step."""
    lines: list[str] = []
    for step in range(1, NUM_STEPS + 1):
        lines += [engine(step, 2 if step >= 5 else 0), engine(step, 0).replace("1e-06", "5e-06"), verl(step)]
    assert counted(judged(tmp_path / "a.log", lines)) == {5: 2}


@pytest.mark.parametrize("overflows", [True, False])
def test_what_a_critics_engine_skips_is_the_critics(tmp_path: Path, *, overflows: bool) -> None:
    """By its count or by its overflows: the role of the process tells; neither's count is the other's."""
    policy, critic = "(PolicyRayActorBase pid=6) ", "(CriticRayActorBase pid=7) "
    lines: list[str] = []
    for step in range(1, NUM_STEPS + 1):
        if overflows:
            lines += [critic + OVERFLOW] * (step == 36) + [policy + OVERFLOW] * (step == 38)
        else:
            counts = {critic: int(step >= 36), policy: int(step >= 38)}
            lines += [engine(step, counts[role]).replace("(WorkerDict pid=6) ", role) for role in (critic, policy)]
        lines.append(openrlhf(step))
    verdict = judged(tmp_path / "a.log", lines)
    assert counted(verdict, "critic/skipped_updates") == {36: 1}
    assert counted(verdict) == {38: 1}
    assert loud(verdict) == [("skipped_updates", Severity.WARN)] * 2


def row(step: int, so_far: float) -> Row:
    return Row(dialect="deepspeed", keys=("skipped",), values=array("d", [so_far]), line=step, step=step)


@pytest.mark.parametrize(
    ("lines", "new"),
    [
        ([(10, 0), (20, 2), (30, 2), (40, 5)], [0, 2, 0, 3]),
        ([(10, 3), (20, 3)], [3, 0]),
        ([(500, 37), (510, 37), (520, 38)], [0, 0, 1]),
        ([(10, 1), (20, 1), (10, 1), (20, 2)], [1, 0, 1, 1]),
        ([(500, 5), (510, 6), (500, 5), (510, 5)], [0, 1, 0, 0]),
        ([(10, 1), (20, 2), (20, 2), (30, 2)], [1, 1, 0, 0]),
        ([(100, 4)], [4]),
    ],
    ids=[
        "what is new",
        "of the first steps",
        "the log begins later",
        "from the start again",
        "from a checkpoint again",
        "a line that is printed twice",
        "a single line",
    ],
)
def test_counts_so_far(lines: list[tuple[int, float]], new: list[float]) -> None:
    """(optimizer step, skipped so far) to what was skipped since the line before."""
    rows = [row(*line) for line in lines]
    undo_summing(rows, ("skipped",))
    assert [one.values[0] for one in rows] == new
