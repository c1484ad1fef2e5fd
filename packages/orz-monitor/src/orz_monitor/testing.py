"""Made-up runs, for testing rules: a healthy one, to which a test adds its fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from orz_monitor.records import EventRecord, Record, StepRecord, dumps
from orz_monitor.run_files import CONSOLE_FILE, RECORDS_FILE
from orz_monitor.stats import Array

START: Final = 1.764e9
"""When made-up runs begin, seconds since the Unix epoch."""


def healthy_metrics(num_steps: int = 60, *, seed: int = 0, critic: bool = True) -> dict[str, Array]:
    """Return the metrics of a small run that solves its task, [num_steps] each.

    The reward climbs from 0.3 to 0.95, entropy falls fivefold, and the share of groups without spread
    rises to 0.9 because they are solved: what frightens rules of a single metric.
    """
    rng = np.random.default_rng(seed)
    climb = 1 / (1 + np.exp(-(np.linspace(-4, 4, num_steps))))  # 0 to 1

    def noisy(values: Array, share: float) -> Array:
        return np.asarray(values * (1 + share * rng.standard_normal(num_steps)), dtype=np.float64)

    reward = np.clip(0.3 + 0.66 * climb + 0.02 * rng.standard_normal(num_steps), 0, 1)
    metrics = {
        "reward/mean": reward,
        "reward/std": np.sqrt(reward * (1 - reward)),
        "reward/solved_frac": reward,
        "reward/unscored_frac": np.zeros(num_steps),
        "reward/timeout_frac": np.zeros(num_steps),
        "reward/error_frac": np.zeros(num_steps),
        "policy/loss": 0.02 * rng.standard_normal(num_steps),
        "policy/entropy": noisy(0.9 - 0.72 * climb, 0.04),
        "policy/kl_ref": noisy(0.001 + 0.15 * climb, 0.06),
        "policy/kl_old": noisy(np.full(num_steps, 0.002), 0.2),
        "policy/clip_frac": noisy(np.full(num_steps, 0.004), 0.2),
        "policy/grad_norm": noisy(1.2 - 0.6 * climb, 0.2),
        "policy/lr": np.full(num_steps, 1e-4),
        "policy/skipped_updates": np.zeros(num_steps),
        "policy/updates": np.ones(num_steps),
        "rollout/response_tokens_mean": noisy(24 - 6 * climb, 0.02),
        "rollout/truncated_frac": np.clip(noisy(0.2 - 0.19 * climb, 0.1), 0, 1),
        "rollout/zero_variance_frac": np.clip(noisy(0.1 + 0.82 * climb, 0.03), 0, 1),
        "mismatch/logprob_abs_mean": noisy(np.full(num_steps, 1e-6), 0.2),
        "tokens/trained": noisy(np.full(num_steps, 6000.0), 0.05).round(),
    }
    if critic:
        metrics |= {
            "critic/loss": noisy(0.12 - 0.08 * climb, 0.2),
            "critic/explained_var": -0.1 + 0.6 * climb + 0.03 * rng.standard_normal(num_steps),
            "critic/skipped_updates": np.zeros(num_steps),
            "critic/updates": np.full(num_steps, 12.0),
        }
    metrics["eval/held-out/accuracy"] = np.where(np.arange(num_steps) % 10 == 9, reward, np.nan)  # noqa: PLR2004 - every tenth step
    return metrics


def step_records(
    metrics: Mapping[str, Array], *, first_step: int = 0, step_s: float = 2.0, start: float = START
) -> list[StepRecord]:
    """Turn metrics of [num_steps] each into records; NaNs of an `eval/` metric are steps without it."""
    num_steps = len(next(iter(metrics.values())))
    shares = {"generate": 0.45, "reward": 0.05, "score": 0.1, "train_critic": 0.2, "train_policy": 0.15, "sync": 0.02}
    return [
        StepRecord(
            step=first_step + i,
            time=start + step_s * (i + 1),
            policy_version=max(0, first_step + i - 1),
            metrics={
                name: float(values[i])
                for name, values in metrics.items()
                if not (name.startswith("eval/") and np.isnan(values[i]))
            },
            seconds={**{phase: share * step_s for phase, share in shares.items()}, "total": step_s},
        )
        for i in range(num_steps)
    ]


def write_run(folder: Path, records: Sequence[Record], *, finished: bool = True, console: str = "") -> Path:
    """Write a run folder with these records, a start and, if asked, a finish around them.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every: list[Record] = [EventRecord(event="start", time=START, data={"recipe": "made-up"}), *records]
    if finished:
        last = records[-1] if records else every[0]
        every.append(EventRecord(event="finish", time=last.time + 1, step=last.step))
    lines = "".join(dumps(record) + "\n" for record in every)
    (folder / RECORDS_FILE).write_text(lines, encoding="ascii")
    if console:
        (folder / CONSOLE_FILE).write_text(console, encoding="utf-8")
    return folder
