"""What grows, jumps or is split in two: told as what it is, at the step where it begins, and silent without it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.findings import Finding
from orz_monitor.loading import load_run
from orz_monitor.rules.agreement import Agreement, agreement
from orz_monitor.rules.kl_jump import jump_with_kl
from orz_monitor.rules.levels import growth
from orz_monitor.series import Series
from orz_monitor.simulated import as_run, healthy
from orz_monitor.stats import Array
from orz_monitor.testing import healthy_metrics

pytestmark = pytest.mark.unit

NUM_STEPS = 120
STEPS = np.arange(NUM_STEPS)


def flat(**changed: Array) -> dict[str, Array]:
    """A run without a critic, whose reward neither rises nor falls, with other series instead of some."""
    metrics = healthy_metrics(NUM_STEPS, critic=False)
    metrics["reward/mean"] = metrics["reward/solved_frac"] = 0.5 + noise(0.02)
    metrics["policy/kl_ref"] = full(0.02) * (1 + noise(0.05))
    return metrics | {name.replace("__", "/"): values for name, values in changed.items()}


def noise(sigma: float) -> Array:
    return sigma * np.random.default_rng(5).standard_normal(NUM_STEPS)


def full(value: float) -> Array:
    return np.full(NUM_STEPS, value)


def found(code: str, metrics: Mapping[str, Array]) -> Finding | None:
    matching = [finding for finding in judge(as_run(metrics)).findings if finding.code == code]
    assert len(matching) <= 1
    return matching[0] if matching else None


def severity_of(finding: Finding | None) -> Severity | None:
    return finding.severity if finding is not None else None


def grown(start: float, end: float, first: int = 40, last: int = 100) -> Array:
    """A level, from a step on a growth by as large a factor in each, and another level."""
    return np.asarray(start * (end / start) ** np.clip((STEPS - first) / (last - first), 0, 1))


def test_growth_tells_both_levels() -> None:
    """From 1 to 16, tenfold at the first value above 10; a level below what is small counts as that."""
    series = Series(name="x", steps=STEPS, values=np.where(STEPS < 60, 1.0, np.where(STEPS < 70, 10.0, 16.0)))
    assert growth(series, 10.0, 5.0) == (70, 119, 1.0, 16.0)
    assert growth(series, 16.0, 5.0) is None
    assert growth(series, 10.0, 17.0) is None
    tiny = Series(name="x", steps=STEPS, values=np.where(STEPS < 60, 0.01, 16.0))
    assert growth(tiny, 10.0, 15.9) == (60, 119, 0.01, 16.0)


def test_a_gap_that_has_grown_is_told_as_growth() -> None:
    """Twentyfold, and still below the level that is large: it names where it began, and no level as usual."""
    finding = found("mismatch", flat(mismatch__logprob_abs_mean=grown(0.002, 0.04)))
    assert finding is not None
    assert (Severity.WARN, "Sampler and trainer drift apart") == (finding.severity, finding.title)
    assert "grew from 0.002 to 0.04 nats a token over the run, more than 10 times." in finding.message
    assert (0.002, 0.04) == pytest.approx((finding.evidence[0].baseline, finding.evidence[0].observed))
    first_above = int(np.argmax(grown(0.002, 0.04) > 0.02))
    assert (first_above, NUM_STEPS - 1) == (finding.first_step, finding.last_step)


@pytest.mark.parametrize(
    ("start", "end", "severity"),
    [(0.004, 0.08, Severity.ERROR), (0.03, 0.08, Severity.WARN), (0.01, 0.04, None), (0.0002, 0.005, None)],
    ids=["tenfold to what is large", "large", "fourfold", "small"],
)
def test_a_gap_that_has_grown_tenfold_to_what_is_large_is_an_error(
    start: float, end: float, severity: Severity | None
) -> None:
    """Either alone is a warning; neither is nothing."""
    finding = found("mismatch", flat(mismatch__logprob_abs_mean=grown(start, end)))
    assert severity == severity_of(finding)
    if finding is not None:
        assert (severity is Severity.ERROR) == finding.message.endswith(f"biases updates. It was {start} at first.")


@pytest.mark.parametrize(
    ("metric", "values", "severity"),
    [
        ("mismatch/kl_k3", grown(0.01, 0.04), Severity.WARN),
        ("mismatch/kl_k3", grown(0.004, 0.06), Severity.ERROR),
        ("mismatch/kl_k3", grown(0.01, 0.025), None),
        ("mismatch/kl_k3", grown(0.0005, 0.004), None),
        ("mismatch/prob_ratio_error", 1 + grown(0.005, 0.04), Severity.WARN),
        ("mismatch/prob_ratio_error", 1 + grown(0.005, 0.02), None),
    ],
)
def test_other_measures_of_disagreement_that_grow(metric: str, values: Array, severity: Severity | None) -> None:
    """A divergence threefold is a warning and tenfold an error; a mean ratio of probabilities by 0.02 a warning."""
    finding = found("mismatch_measures", flat() | {metric: values})
    assert severity == severity_of(finding)
    if finding is not None:
        assert finding.title == "Sampler and trainer drift apart"
        assert finding.evidence[0].baseline == pytest.approx(values[30])
        assert finding.evidence[0].observed == pytest.approx(values[-1])


def test_a_divergence_that_leapt_once_is_no_growth() -> None:
    """Fourfold in its last values alone: no trend."""
    values = full(0.01) * (1 + noise(0.1))
    values[112:] *= 4
    assert found("mismatch_measures", flat(mismatch__kl_k3=values)) is None


@pytest.mark.parametrize(
    ("level", "title", "said"),
    [
        (0.3, "Responses repeat themselves", "30 % of a response was repetition in the steps 70 to 119."),
        (
            0.1,
            "Responses repeat themselves more and more",
            "Repetition grew from 2 % of a response in the first steps to 10 % in the steps 70 to 119.",
        ),
    ],
)
def test_repetition_is_told_as_much_or_as_more_than_before(level: float, title: str, said: str) -> None:
    """Above a fifth it is much; below, threefold is more; twice as much is nothing."""
    finding = found("repetition", flat(rollout__repetition=np.where(STEPS < 70, 0.02, level)))
    assert finding is not None
    assert (Severity.WARN, title, said) == (finding.severity, finding.title, finding.message)
    assert found("repetition", flat(rollout__repetition=np.where(STEPS < 70, 0.02, 0.04))) is None


def kl_that_doubles(every: float) -> Array:
    """From step 70 on, every so many steps, until it is five times what it was: not ten."""
    return np.asarray(0.02 * np.minimum(2 ** np.clip((STEPS - 70) / every, 0, None), 5.0))


def test_kl_that_doubles_within_20_steps_is_a_drift() -> None:
    """From three times the early level on, though it is below what is far; and to the end, as it never comes back."""
    finding = found("kl_drift", flat(policy__kl_ref=kl_that_doubles(12)))
    assert finding is not None
    assert (Severity.WARN, NUM_STEPS - 1) == (finding.severity, finding.last_step)
    threefold = 70 + 12 * np.log2(3)
    assert threefold <= (finding.first_step or 0) <= threefold + 8
    assert "doubling every 12 steps" in finding.message
    assert found("kl_drift", flat(policy__kl_ref=kl_that_doubles(40))) is None


@pytest.mark.parametrize("reward", [np.linspace(0.2, 0.8, NUM_STEPS), None], ids=["rises", "is not logged"])
def test_kl_that_doubles_is_no_drift_without_a_reward_that_gains_nothing(reward: Array | None) -> None:
    """Growth is what learning needs."""
    metrics = flat(policy__kl_ref=kl_that_doubles(12))
    metrics = {name: values for name, values in metrics.items() if not name.startswith("reward/")}
    assert found("kl_drift", metrics | ({"reward/mean": reward} if reward is not None else {})) is None


def test_a_reward_that_rose_before_kl_doubled_does_not_excuse_it() -> None:
    """What the reward does while KL grows is what counts: from 0.2 to 0.5 in the first 60 steps, and then nothing."""
    reward = np.where(STEPS < 60, 0.2 + 0.005 * STEPS, 0.5) + noise(0.01)
    metrics = flat(policy__kl_ref=kl_that_doubles(12), reward__mean=reward)
    finding = found("kl_drift", metrics)
    assert severity_of(finding) is Severity.WARN


def test_kl_that_grows_by_as_much_a_step_does_not_double_for_long() -> None:
    """From 0 on; at its end it is sixfold the level of the steps 10 to 30."""
    assert found("kl_drift", flat(policy__kl_ref=0.0008 * STEPS * (1 + noise(0.03)))) is None


def jump(evaluation: Array | None, rate_after: float) -> dict[str, Array]:
    """A reward that goes from 0.3 to 0.6 at step 61, where KL has grown by 0.0005 a step, and then by another rate."""
    kl = 0.0005 * STEPS + np.where(STEPS > 60, (rate_after - 0.0005) * (STEPS - 60), 0.0)
    metrics = flat(policy__kl_ref=kl, reward__mean=np.where(STEPS > 60, 0.6, 0.3) + noise(0.01))
    del metrics["reward/solved_frac"]
    held_out = "eval/held-out/accuracy"
    return {name: v for name, v in metrics.items() if name != held_out} | (
        {held_out: np.where(STEPS % 10 == 9, evaluation, np.nan)} if evaluation is not None else {}
    )


@pytest.mark.parametrize(
    ("evaluation", "rate_after", "severity"),
    [
        (full(0.3), 0.01, Severity.WARN),
        (None, 0.01, Severity.INFO),
        (np.where(STEPS > 60, 0.55, 0.3), 0.01, None),
        (full(0.3), 0.0005, None),
        (full(0.3), 0.002, None),
    ],
    ids=["no evaluation rises", "nothing held out", "the evaluation rises", "KL goes on", "KL gains little"],
)
def test_a_reward_that_jumps_while_kl_speeds_up_may_be_gamed(
    evaluation: Array | None, rate_after: float, severity: Severity | None
) -> None:
    """A warning where something held out does not follow; without that, the same may be a format that was learnt."""
    finding = found("reward_hack", jump(evaluation, rate_after))
    assert severity == severity_of(finding)
    if finding is not None:
        assert (60, 80) == (finding.first_step, finding.last_step)
        assert "consistent with a reward that is gamed" in finding.message


def test_what_a_jump_is_reckoned_from() -> None:
    """Levels of reward and gains of KL by hand: 20 steps at 0.0005, and 18 at 0.01 after, since levels lag by 2."""
    seen = jump_with_kl(as_run(jump(None, 0.01)))
    assert seen is not None
    assert (60, 80) == (seen.step, seen.last_step)
    assert (0.3, 0.6) == pytest.approx((seen.before, seen.after), abs=0.02)
    assert (20 * 0.0005, 18 * 0.01 + 2 * 0.0005) == pytest.approx((seen.kl_before, seen.kl_after), abs=1e-9)
    short = {name: values[:50] for name, values in jump(None, 0.01).items()}
    assert jump_with_kl(as_run(short)) is None


@pytest.mark.parametrize(
    ("solved", "known", "kind"),
    [
        (0.9, {}, Agreement.SUCCESS),
        (0.05, {}, Agreement.FAILURE),
        (0.4, {}, Agreement.UNKNOWN),
        (0.4, {"reward/solve_all_frac": 0.6}, Agreement.SUCCESS),
        (0.4, {"reward/solve_all_frac": 0.1}, Agreement.FAILURE),
        (0.4, {"reward/solve_none_frac": 0.6}, Agreement.FAILURE),
        (None, {}, Agreement.UNKNOWN),
    ],
)
def test_groups_agree_on_success_or_on_failure(
    solved: float | None, known: Mapping[str, float], kind: Agreement
) -> None:
    """Of 80 % without spread: as the trainer counts them; else of 40 % solved samples 20 to 40 % of the groups are."""
    metrics = flat(rollout__zero_variance_frac=full(0.8)) | {name: full(value) for name, value in known.items()}
    metrics = metrics | ({"reward/solved_frac": full(solved)} if solved is not None else {})
    if solved is None:
        del metrics["reward/solved_frac"]
    assert kind == agreement(as_run(metrics), 60, 119)


@pytest.mark.parametrize(
    ("metric", "title", "cause"),
    [
        ("reward/solve_all_frac", "all their samples succeed", "the prompts are too easy"),
        ("reward/solve_none_frac", "all their samples fail", "the prompts are too hard"),
    ],
)
def test_groups_without_spread_are_found_by_what_they_agree_on_alone(metric: str, title: str, cause: str) -> None:
    """Forks of verl log those that all succeed and that all fail, and not the sum."""
    metrics = {
        name: v for name, v in flat().items() if name not in {"rollout/zero_variance_frac", "reward/solved_frac"}
    }
    other = ({"reward/solve_all_frac", "reward/solve_none_frac"} - {metric}).pop()
    metrics |= {metric: np.where(STEPS < 60, 0.1, 0.6), other: full(0.1)}
    finding = found("zero_variance", metrics)
    assert finding is not None
    assert (Severity.WARN, 60) == (finding.severity, finding.first_step)
    assert finding.title.endswith(title)
    assert finding.causes[0].what.startswith(cause)
    assert "In 70 % of the groups" in finding.message
    assert found("zero_variance", metrics | {metric: full(0.1)}) is None


def engine_log(folder: Path, preempted: int, *, running: int = 40) -> Path:
    """A log of vLLM alone: 60 lines of a cache that is never full, the last 25 with requests that are put back."""
    path = folder / "engine.log"
    lines = [
        "INFO 02-24 10:13:50 [loggers.py:118] Engine 000: Avg prompt throughput: 90.0 tokens/s, Avg generation "
        f"throughput: 1500.0 tokens/s, Running: {running} reqs, Waiting: 0 reqs, "
        f"{f'Preemptions: {preempted}, ' if preempted and line >= 35 else ''}GPU KV cache usage: {60 + line % 20}.5%"
        for line in range(60)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("preempted", "is_found"), [(4, True), (2, False), (0, False)])
def test_requests_that_are_put_back_are_a_finding_by_themselves(
    tmp_path: Path, preempted: int, *, is_found: bool
) -> None:
    """More than 5 % of 40 that run, in one line after the other, though none waits and the cache is not full."""
    verdict = judge(load_run(engine_log(tmp_path, preempted)))
    matching = [finding for finding in verdict.findings if finding.code == "kv_full"]
    assert len(matching) == is_found
    if is_found:
        assert (Severity.WARN, 35, 59) == (matching[0].severity, matching[0].first_step, matching[0].last_step)
        assert matching[0].message == (
            "The engine put requests back for want of room, 4 between two of its lines, in the engine's lines 35 to 59."
        )
    else:
        assert "kv_full" in {rule.code for rule in verdict.passed}


@pytest.mark.parametrize(("after", "severity"), [(0.01, Severity.ERROR), (0.4, Severity.WARN)])
def test_a_single_nan_that_takes_the_reward_with_it_is_an_error(after: float, severity: Severity) -> None:
    """One that does not is a warning, and harmless as long as it stays one."""
    metrics = flat(policy__loss=noise(0.01))
    metrics["policy/loss"][70] = np.nan
    metrics["reward/mean"] = np.where(STEPS > 70, after, 0.5) + noise(0.002)
    finding = found("nonfinite", metrics)
    assert finding is not None
    assert (severity, 70, 70) == (finding.severity, finding.first_step, finding.last_step)
    assert (severity is Severity.WARN) == bool(finding.caveat)


@pytest.mark.parametrize(("times", "severity"), [(1, Severity.INFO), (5, Severity.WARN), (0, None)])
def test_samples_of_exclamation_marks(tmp_path: Path, times: int, severity: Severity | None) -> None:
    """What a model writes whose logits are NaN: a note, and a warning from three lines on, at the first of them."""
    path = tmp_path / "train.log"
    step = "step:{} - actor/pg_loss:0.01 - critic/score/mean:0.{}\n"
    lines = [step.format(number, 400 + number % 7) for number in range(1, 41)]
    for index in range(times):
        lines.insert(30 + 2 * index, f"(TaskRunner pid=1) [response] {'!' * 300}\n")
    lines.insert(5, f"(TaskRunner pid=1) [response] Good{'!' * 20}\n")
    path.write_text("".join(lines), encoding="utf-8")
    finding = next((f for f in judge(load_run(path)).findings if f.code == "one_symbol"), None)
    assert severity == severity_of(finding)
    if finding is not None:
        assert (32, 30) == (finding.line, finding.first_step)


@pytest.mark.parametrize("seed", range(3))
def test_healthy_runs_have_none_of_these(seed: int) -> None:
    """Simulated ones, of every kind that has the metrics: no more than notes."""
    for kind in ("grpo", "ppo", "async"):
        findings = judge(as_run(healthy(300, seed=2_000_000 + seed, kind=kind))).findings
        assert [f.message for f in findings if f.severity is not Severity.INFO] == []
