"""Simulated runs with the noise and the habits of real ones: what false alarms and delays are measured on.

The noise from step to step is that of public runs (entropy 3 to 7 %, length 1 to 3 %, reward 0.5 to 4 %, KL 1 to 7 %,
gradient norm 5 to 35 %, value loss 11 to 45 %, step time 4 to 6 %). Courses differ as runs do: reward that climbs,
saturates or hardly moves, entropy that falls or stays, lengths that grow or shrink, evaluations and saves that take
time every so many steps, restarts, single leaps of the gradient norm. The gap of probabilities between sampler and
trainer goes with that of log-probs, and is smaller where the policy is sure; their KL goes with its square.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from orz_monitor.presets import PPO_LIKE
from orz_monitor.records import EventRecord
from orz_monitor.run import Run, coverage_of
from orz_monitor.series import Series
from orz_monitor.stats import Array

START: Final = 1.764e9
"""When simulated runs begin, seconds since the Unix epoch."""
KINDS: Final = ("ppo", "kl-free", "grpo", "dapo", "async")


def healthy(num_steps: int, *, seed: int, kind: str = "ppo") -> dict[str, Array]:
    """Return the metrics of a healthy run, and under `seconds/` its phases; [num_steps] each, NaN where not logged.

    Args:
        num_steps: its length.
        seed: everything about it is a function of this.
        kind: a preset; those without a critic log none, `dapo` and `kl-free` no KL.
    """
    rng = np.random.default_rng([seed, num_steps, KINDS.index(kind)])
    at = np.arange(num_steps)

    def noisy(values: Array | float, low: float, high: float) -> Array:
        return np.asarray(values * np.exp(rng.uniform(low, high) * rng.standard_normal(num_steps)), dtype=np.float64)

    pace, first = rng.uniform(0.05, 0.6) * num_steps + 10, rng.uniform(0.02, 0.4)
    climb = 1 - np.exp(-at / pace)
    reward = np.clip(first + rng.uniform(0.05, 0.9 - first) * climb, 0, 1)
    reward = np.clip(reward * (1 + rng.uniform(0.005, 0.04) * rng.standard_normal(num_steps)), 0, 1)
    length = rng.uniform(300, 1500) * np.exp(rng.uniform(-0.3, 1.2) * climb)
    entropy = rng.uniform(0.25, 1.2) * np.exp(-rng.uniform(0, 2.5) * climb)
    truncated = np.clip(rng.uniform(0, 0.04) + rng.uniform(0, 0.25) * np.exp(-at / 8), 0, 1)
    metrics = {
        "reward/mean": reward,
        "reward/std": noisy(np.sqrt(np.maximum(reward * (1 - reward), 0.01)), 0.01, 0.03),
        "policy/loss": rng.normal(0, rng.uniform(0.005, 0.03), num_steps),
        "policy/entropy": noisy(entropy, 0.03, 0.07),
        "policy/kl_old": noisy(rng.uniform(1e-4, 4e-3), 0.05, 0.3),
        "policy/clip_frac": noisy(rng.uniform(5e-4, 5e-3), 0.05, 0.2),
        "policy/ratio_max": 1 + noisy(rng.uniform(0.2, 2), 0.2, 0.4),
        "policy/grad_norm": noisy(rng.uniform(0.1, 1) * np.exp(-rng.uniform(0, 0.7) * climb), 0.05, 0.35),
        "policy/lr": np.minimum((at + 1) / rng.integers(1, 21), 1) * 1e-6,
        "rollout/response_tokens_mean": noisy(length, 0.01, 0.03),
        "rollout/truncated_frac": np.clip(noisy(truncated, 0.05, 0.2), 0, 1),
        "rollout/zero_variance_frac": np.clip(noisy(0.1 + 0.25 * np.abs(2 * reward - 1), 0.03, 0.1), 0, 1),
        "rollout/repetition": noisy(rng.uniform(0.005, 0.04), 0.05, 0.2),
        "mismatch/logprob_abs_mean": noisy(rng.uniform(0.004, 0.02), 0.03, 0.1),
    }
    metrics["mismatch/prob_abs_mean"] = _probability_gap(seed, metrics["mismatch/logprob_abs_mean"], entropy)
    metrics["mismatch/kl_k3"] = _divergence(seed, metrics["mismatch/logprob_abs_mean"])
    metrics["mismatch/kl_k1"] = _signed(seed, metrics["mismatch/kl_k3"])
    leaps = rng.random(num_steps) < 1 / 400  # single leaps of the gradient are usual
    metrics["policy/grad_norm"] *= np.where(leaps, rng.uniform(4, 12, num_steps), 1)
    if kind in PPO_LIKE:
        metrics |= {
            "critic/loss": noisy(rng.uniform(0.05, 0.2) * np.exp(-rng.uniform(0, 1) * climb), 0.11, 0.45),
            "critic/value_mean": noisy(reward, 0.02, 0.06),
            "critic/grad_norm": noisy(rng.uniform(0.5, 4), 0.2, 0.35),
            "critic/explained_var": np.minimum(
                -0.3 + rng.uniform(0.5, 0.9) * (1 - np.exp(-at / 20)) + 0.04 * rng.standard_normal(num_steps), 0.95
            ),
        }
    if kind not in {"kl-free", "dapo"}:
        metrics["policy/kl_ref"] = noisy(rng.uniform(0.005, 0.3) * climb + 2e-4, 0.01, 0.07)
    if kind == "async":
        metrics["staleness/mean"] = noisy(rng.uniform(1.6, 3), 0.02, 0.1)
        metrics["staleness/max"] = np.round(rng.uniform(2, 6) + rng.random(num_steps))
    return metrics | _evaluations(rng, reward) | _phases(rng, metrics["rollout/response_tokens_mean"])


def as_run(
    metrics: Mapping[str, Array], *, restarts: tuple[int, ...] = (), finished: bool = True, silence_s: float = 5.0
) -> Run:
    """Make a run of metrics of [num_steps] each; those under `seconds/` are its phases. NaNs of `eval/` are left out.

    Args:
        metrics: as `healthy` returns them.
        restarts: first steps after a restart.
        finished: whether it ended.
        silence_s: time since its last record, at the time of judging.
    """
    num_steps = len(next(iter(metrics.values())))
    steps = np.arange(num_steps)
    series: dict[str, Series] = {}
    for name, values in metrics.items():
        kept = (
            ~np.isnan(values)
            if name.startswith(("eval/", "seconds/eval", "seconds/save"))
            else np.full(num_steps, fill_value=True)
        )
        series[name] = Series(name=name, steps=steps[kept], values=np.asarray(values, dtype=np.float64)[kept])
    seconds = {name.removeprefix("seconds/"): part for name, part in series.items() if name.startswith("seconds/")}
    logged = {name: part for name, part in series.items() if not name.startswith("seconds/")}
    total = seconds["total"].values if "total" in seconds else np.full(num_steps, 60.0)
    times = START + np.cumsum(total)
    events = [EventRecord(event="start", time=START)]
    events += [EventRecord(event="resume", time=float(times[step - 1]), step=step - 1) for step in restarts if step]
    events += [EventRecord(event="finish", time=float(times[-1]), step=num_steps - 1)] if finished else []
    return Run(
        name="simulated",
        path=Path("simulated.jsonl"),
        folder=None,
        steps=steps,
        metrics=logged,
        seconds=seconds,
        times=Series(name="time", steps=steps, values=times),
        events=tuple(events),
        restarts=restarts,
        lines={int(step): int(step) + 2 for step in steps},
        coverage=coverage_of(set(logged), num_records=num_steps, unreadable=[]),
        traceback=None,
        now=float(times[-1]) + silence_s,
    )


def only_probabilities(metrics: Mapping[str, Array]) -> dict[str, Array]:
    """Leave out the gap of log-probs, as verl does, which logs that of probabilities alone."""
    return {name: values for name, values in metrics.items() if name != "mismatch/logprob_abs_mean"}


def _probability_gap(seed: int, gap: Array, entropy: Array) -> Array:
    """Return the mean absolute gap of probabilities beside that of log-probs, [num_steps]: a quarter to a half of it.

    It has a generator of its own, so that all else of a run stays as its seed made it before.
    """
    rng = np.random.default_rng([seed, len(gap), len(KINDS)])
    sure = (entropy / entropy[0]) ** rng.uniform(0.2, 0.8)
    noise = np.exp(rng.uniform(0.02, 0.06) * rng.standard_normal(len(gap)))
    return np.asarray(rng.uniform(0.25, 0.5) * gap * sure * noise, dtype=np.float64)


def _divergence(seed: int, gap: Array) -> Array:
    """Return the KL of estimator k3 beside the gap of log-probs, [num_steps]: some times its square, and noisier."""
    rng = np.random.default_rng([seed, len(gap), len(KINDS) + 1])
    noise = np.exp(rng.uniform(0.1, 0.4) * rng.standard_normal(len(gap)))
    return np.asarray(rng.uniform(1, 5) * gap**2 * noise, dtype=np.float64)


def _signed(seed: int, divergence: Array) -> Array:
    """Return the KL of estimator k1 beside that of k3, [num_steps]: the same level, and more noise, of either sign."""
    rng = np.random.default_rng([seed, len(divergence), len(KINDS) + 2])
    noise = np.median(divergence) * rng.uniform(0.05, 1.0) * rng.standard_normal(len(divergence))
    return np.asarray(divergence + noise, dtype=np.float64)


def _evaluations(rng: np.random.Generator, reward: Array) -> dict[str, Array]:
    """Return the accuracy on a held-out set of 500, every so many steps: near the reward, with its own noise."""
    every, behind = int(rng.choice([10, 20, 50])), rng.uniform(0, 0.1)
    smooth = np.clip(np.minimum.accumulate(reward[::-1])[::-1] - behind, 0.01, 0.99)
    accuracy = rng.binomial(500, smooth) / 500
    evaluated = np.arange(len(reward)) % every == every - 1
    return {"eval/held-out/accuracy": np.where(evaluated, accuracy, np.nan)}


def _phases(rng: np.random.Generator, length: Array) -> dict[str, Array]:
    """Return how long the phases took: generation grows with length; evaluations and saves are now and then."""
    num_steps = len(length)
    pace = rng.uniform(20, 400)
    generate = 0.6 * pace * length / length[0] * np.exp(rng.uniform(0.04, 0.06) * rng.standard_normal(num_steps))
    train = 0.4 * pace * np.exp(rng.uniform(0.02, 0.05) * rng.standard_normal(num_steps))
    at, every = np.arange(num_steps), int(rng.choice([10, 20, 50]))
    evaluation = np.where(at % every == every - 1, rng.uniform(0.5, 3) * pace, np.nan)
    save = np.where(at % (2 * every) == 0, rng.uniform(0.1, 2) * pace, np.nan)
    return {
        "seconds/generate": generate,
        "seconds/train_policy": train,
        "seconds/eval": evaluation,
        "seconds/save": save,
        "seconds/total": generate + train + np.nan_to_num(evaluation) + np.nan_to_num(save),
    }
