"""Whether the sampler and the trainer are at one about the tokens of a step, and what to say when they are not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orz_train.config.schema import Config
from orz_train.types import StepReport

METRIC = "mismatch/logprob_abs_mean"

ROUNDING_NATS = {"float32": 1e-3, "bfloat16": 0.1}
"""By precision of the policy, a mean log-prob gap per token far above what two ways of computing the same make."""


def explained_gap(config: Config) -> float:
    """Return the mean log-prob gap, in nats a token, that precision and truncated sampling explain.

    A sampler that keeps the likeliest tokens up to a mass of top_p makes each at most 1 / top_p times as likely. What
    top_k leaves out has no such bound: the answer is infinite.
    """
    generation = config.generation
    if generation.top_k > 0:
        return math.inf
    return ROUNDING_NATS[config.policy.dtype] - math.log(generation.top_p)


@dataclass(slots=True)
class MismatchWatch:
    """Notices steps whose gap has no harmless reason, once for each streak of them."""

    agreed: bool = False
    """Whether any step so far was within the limit."""
    disagrees: bool = False
    """Whether the last step was beyond it."""

    def warning(self, report: StepReport, config: Config) -> dict[str, object] | None:
        """Return the data of a `warning` event for the first step of a streak, else None.

        A step without a trained token has no gap, and neither begins nor ends a streak.
        """
        gap, limit = report.metrics.get(METRIC, math.nan), explained_gap(config)
        if math.isnan(gap):
            return None
        begins = gap > limit and not self.disagrees
        self.disagrees = gap > limit
        self.agreed |= not self.disagrees
        if not begins:
            return None
        message = (
            f"step {report.step}: sampler and trainer differ by {gap:.2g} nats a token ({METRIC}), "
            f"{config.policy.dtype} explains {limit:.2g}: {self._reason(report)}"
        )
        return {"message": message, "metric": METRIC, "limit": limit}

    def _reason(self, report: StepReport) -> str:
        """Name the likeliest reason and what to look at."""
        expected = report.step - 1
        if report.policy_version != expected:
            return (
                f"the generator sampled with the weights after step {report.policy_version}, expected those after "
                f"step {expected}; see why pushes do not reach it, in its log under logs/"
            )
        if self.agreed:
            return (
                "they have agreed before, so the generator may have stale weights; see whether sync/bytes has "
                "fallen, and find the push that failed with cluster.weights.probe=every"
            )
        return (
            "they have never agreed, so the generator may have loaded the weights wrongly, such as a head tied to the "
            "embedding that kept its first values, or another model or tokenizer; cluster.weights.probe=every "
            "compares them after each push"
        )
