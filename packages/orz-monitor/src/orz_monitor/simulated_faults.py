"""Faults that are put into simulated runs, and how many steps the rules take to find them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.configuration import NOTHING_SET, Configuration
from orz_monitor.engine import Verdict, judge
from orz_monitor.simulated import as_run
from orz_monitor.stats import Array, smooth

LATEST: Final = 30
"""Steps after which a fault counts as missed."""
_SMOOTHED: Final = 0.2
"""Weight of a step in the average that is taken for what a reward would be without its noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A fault.

    Attributes:
        name: what it is.
        inject: changes a run's metrics from a step on.
        codes: rules whose finding counts as finding it.
        ramp: the metric that ramps; the delay counts from where it leaves the run's own 6-sigma band. Empty for a
            fault that is there at once.
    """

    name: str
    inject: Callable[[dict[str, Array], int], None]
    codes: frozenset[str]
    ramp: str = ""


def _nan(metrics: dict[str, Array], at: int) -> None:
    """Break the loss."""
    metrics["policy/loss"][at:] = np.nan


def _gradients(metrics: dict[str, Array], at: int) -> None:
    """Let gradients explode."""
    metrics["policy/grad_norm"][at:] *= 10


def _reward(metrics: dict[str, Array], at: int) -> None:
    """Let the reward go to a fiftieth."""
    metrics["reward/mean"][at:] *= 0.02


def _no_spread(metrics: dict[str, Array], at: int) -> None:
    """Let every group fail."""
    metrics["rollout/zero_variance_frac"][at:] = 1.0
    metrics["reward/std"][at:] = 0.0
    metrics["reward/mean"][at:] = 0.0


def _ramp(name: str, rate: float) -> Callable[[dict[str, Array], int], None]:
    """Let a metric grow by a factor a step, and the reward with it no longer."""

    def inject(metrics: dict[str, Array], at: int) -> None:
        ahead = np.arange(1, len(metrics[name]) - at + 1)
        metrics[name][at:] = metrics[name][at:] * np.exp(rate * ahead)
        if name.startswith("rollout/"):
            metrics["rollout/truncated_frac"][at:] = np.clip(
                metrics["rollout/truncated_frac"][at:] + 0.3 * rate * ahead, 0, 1
            )
        if not name.startswith("mismatch/"):
            stopped = metrics["reward/mean"][max(0, at - 10) : at]
            noise = metrics["reward/mean"][at:] / smooth(metrics["reward/mean"][at:], _SMOOTHED)
            metrics["reward/mean"][at:] = np.median(stopped) * np.clip(noise, 0.9, 1.1)

    return inject


def _probability_gap(metrics: dict[str, Array], at: int) -> None:
    """Let the gap of probabilities grow as far as one can, where it is the only one that is logged."""
    del metrics["mismatch/logprob_abs_mean"]
    _ramp("mismatch/prob_abs_mean", 0.1)(metrics, at)
    np.minimum(metrics["mismatch/prob_abs_mean"], 1.0, out=metrics["mismatch/prob_abs_mean"])


def _divergence(metrics: dict[str, Array], at: int) -> None:
    """Let the KL between sampler and trainer grow with the square of a gap, where it alone is logged."""
    for name in ("mismatch/logprob_abs_mean", "mismatch/prob_abs_mean", "mismatch/kl_k1"):
        del metrics[name]
    _ramp("mismatch/kl_k3", 0.2)(metrics, at)


FAULTS: Final = (
    Fault(name="NaN", inject=_nan, codes=frozenset({"nonfinite"})),
    Fault(name="gradients x10", inject=_gradients, codes=frozenset({"grad_spike"})),
    Fault(name="reward collapse", inject=_reward, codes=frozenset({"reward_drop", "reward_floor"})),
    Fault(name="zero variance", inject=_no_spread, codes=frozenset({"zero_variance", "reward_floor", "reward_drop"})),
    Fault(
        name="entropy ramp down",
        inject=_ramp("policy/entropy", -0.08),
        codes=frozenset({"ramp", "entropy_fast", "entropy_low"}),
        ramp="policy/entropy",
    ),
    Fault(
        name="entropy ramp up",
        inject=_ramp("policy/entropy", 0.08),
        codes=frozenset({"ramp", "entropy_high"}),
        ramp="policy/entropy",
    ),
    Fault(
        name="KL ramp",
        inject=_ramp("policy/kl_ref", 0.12),
        codes=frozenset({"ramp", "kl_drift"}),
        ramp="policy/kl_ref",
    ),
    Fault(
        name="length ramp",
        inject=_ramp("rollout/response_tokens_mean", 0.05),
        codes=frozenset({"ramp", "length_growth", "truncation"}),
        ramp="rollout/response_tokens_mean",
    ),
    Fault(
        name="mismatch ramp",
        inject=_ramp("mismatch/logprob_abs_mean", 0.1),
        codes=frozenset({"ramp", "mismatch"}),
        ramp="mismatch/logprob_abs_mean",
    ),
    Fault(
        name="probability gap ramp",
        inject=_probability_gap,
        codes=frozenset({"ramp", "mismatch"}),
        ramp="mismatch/prob_abs_mean",
    ),
    Fault(
        name="mismatch KL ramp",
        inject=_divergence,
        codes=frozenset({"ramp", "mismatch_measures"}),
        ramp="mismatch/kl_k3",
    ),
)
"""Faults of the metrics. A stall is a fault of the clock: `stall_found`."""
_SLOW_CODES: Final[Mapping[str, frozenset[str]]] = {
    "policy/entropy": frozenset({"ramp", "entropy_low"}),
    "policy/kl_ref": frozenset({"ramp", "kl_drift"}),
    "rollout/response_tokens_mean": frozenset({"ramp", "length_growth", "truncation"}),
    "mismatch/logprob_abs_mean": frozenset({"ramp", "mismatch"}),
}
SLOW_RAMPS: Final = tuple(
    Fault(
        name=f"{metric}, {100 * rate:g} % a step",
        inject=_ramp(metric, -rate if metric == "policy/entropy" else rate),
        codes=codes,
        ramp=metric,
    )
    for metric, codes in _SLOW_CODES.items()
    for rate in (0.02, 0.01)
)
"""Ramps that take tens of steps to leave a band, which a trend follows meanwhile: not all of them are found soon."""


def delay(
    metrics: Mapping[str, Array],
    fault: Fault,
    at: int,
    *,
    latest: int = LATEST,
    configuration: Configuration = NOTHING_SET,
) -> int | None:
    """Return how many steps after its beginning a fault is found at least as a warning; None if not in `latest`.

    1 means in the very step. The run is judged after each step, as if it had come to that.

    Args:
        metrics: a healthy run, longer than `at` by `latest` steps and more.
        fault: what is put in.
        at: the step from which on.
        latest: steps after which it counts as missed.
        configuration: thresholds that are tried.
    """
    faulty = _with(fault, metrics, at)
    begins = left_band(metrics[fault.ramp], faulty[fault.ramp], at) if fault.ramp else at
    for step in range(begins, min(begins + latest, len(faulty["reward/mean"]))):
        run = as_run({name: values[: step + 1] for name, values in faulty.items()}, finished=False)
        if _is_found(fault, judge(run, configuration=configuration)):
            return step - begins + 1
    return None


def is_found_at_the_end(metrics: Mapping[str, Array], fault: Fault, at: int) -> bool:
    """Tell whether a fault that lasts is at least a warning for who judges the run once, when it has ended.

    Args:
        metrics: a healthy run.
        fault: what is put in.
        at: the step from which on.
    """
    return _is_found(fault, judge(as_run(_with(fault, metrics, at), finished=True)))


def _with(fault: Fault, metrics: Mapping[str, Array], at: int) -> dict[str, Array]:
    """Return a run with a fault in it."""
    faulty = {name: values.copy() for name, values in metrics.items()}
    fault.inject(faulty, at)
    return faulty


def _is_found(fault: Fault, verdict: Verdict) -> bool:
    """Tell whether a fault is among the warnings and errors."""
    return any(f.code in fault.codes and f.severity is not Severity.INFO for f in verdict.findings)


def left_band(healthy: Array, faulty: Array, at: int) -> int:
    """Return the first step from `at` on in which a metric is outside the 6-sigma band of the 40 steps before.

    The band is the median of the 40 values before and six standard deviations of their noise from step to step.
    """
    before = healthy[max(0, at - 40) : at]
    sigma = 1.4826 * float(np.median(np.abs(np.diff(before)))) / np.sqrt(2)
    outside = np.abs(faulty[at:] - np.median(before)) > 6 * sigma
    return at + (int(np.argmax(outside)) if outside.any() else 0)


def stall_found(metrics: Mapping[str, Array]) -> bool:
    """Tell whether a silence just over three times the 95th percentile of the step time, or ten minutes, is found."""
    long = max(600.0, 3 * float(np.percentile(metrics["seconds/total"], 95)))
    quiet = judge(as_run(metrics, finished=False, silence_s=0.95 * long)).findings
    late = judge(as_run(metrics, finished=False, silence_s=1.05 * long)).findings
    return "stall" in {f.code for f in late} and "stall" not in {f.code for f in quiet}
