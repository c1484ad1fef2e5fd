"""Whether the sampler and the trainer are at one about the tokens of a step, and what to say when they are not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final, NamedTuple, Self

from orz_train.config.schema import Config
from orz_train.types import StepReport

METRIC: Final = "mismatch/logprob_abs_mean"
FIRST_STEPS: Final = 5
"""Steps whose gaps say what is usual in a run."""
GROWTH: Final = 5.0
"""Times the usual gap, from which on it has another reason than rounding."""


class Rounding(NamedTuple):
    """Mean log-prob gaps, in nats a token, of two ways of computing the same weights' log-probs."""

    least: float
    """A smaller one is never news, whatever the first ones were."""
    most: float
    """A larger one is never rounding."""

    def limit(self, usual: Sequence[float]) -> float:
        """Return the largest gap that is rounding, in view of those that certainly were; there may be none yet."""
        return min(self.most, max(self.least, GROWTH * median(usual))) if usual else self.most


class Gaps(NamedTuple):
    """What a precision explains."""

    step: Rounding
    """Over the thousands of tokens of a step."""
    probe: Rounding
    """Over the few tokens of a probe, where in bfloat16 a single one may be far off."""


GAPS: Final = {
    "float32": Gaps(step=Rounding(least=1e-5, most=1e-3), probe=Rounding(least=1e-4, most=1e-3)),
    "bfloat16": Gaps(step=Rounding(least=0.03, most=0.1), probe=Rounding(least=0.3, most=0.3)),
}
"""By precision of the policy."""


def explained_gap(config: Config, usual: Sequence[float] = ()) -> float:
    """Return the mean log-prob gap of a step, in nats a token, that precision and truncated sampling explain.

    A sampler that keeps the likeliest tokens up to a mass of top_p makes each at most 1 / top_p times as likely. What
    top_k leaves out has no such bound: the answer is infinite.

    Args:
        config: of the run.
        usual: gaps of its first steps, as far as they were explained.
    """
    generation = config.generation
    if generation.top_k > 0:
        return math.inf
    return GAPS[config.policy.dtype].step.limit(usual) - math.log(generation.top_p)


@dataclass(slots=True)
class MismatchWatch:
    """Notices steps that were sampled with other weights than the newest, once for each streak of them.

    The number of the weights tells, whatever the gap: in bfloat16 some lost pushes at a small learning rate change less
    than rounding does. The gap tells where weights have the right number and are not those of the trainer.
    """

    usual: list[float] = field(default_factory=list)
    """Gaps of the first `FIRST_STEPS` steps that were within the limit."""
    disagrees: bool = False
    """Whether the gap of the last step with the newest weights was beyond the limit, which was told."""
    behind: bool = False
    """Whether the last step was sampled with weights of another number."""

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        """Go on where `state` was taken; an empty one is that of a new run."""
        return cls(
            usual=[float(gap) for gap in state.get("usual", ())],
            disagrees=bool(state.get("disagrees")),
            behind=bool(state.get("behind")),
        )

    def state(self) -> dict[str, Any]:
        """Return what a resume needs, for JSON."""
        return asdict(self)

    def warning(self, report: StepReport, config: Config) -> dict[str, object] | None:
        """Return the data of a `warning` event for the first step of a streak, else None.

        A step without a trained token has no gap, and neither begins nor ends a streak of gaps.
        """
        gap, limit = report.metrics.get(METRIC, math.nan), explained_gap(config, self.usual)
        was_behind, self.behind = self.behind, report.policy_version != report.step - 1
        message = None
        if self.behind:  # a gap says nothing then, and a streak that goes on afterwards is still to be told
            message = None if was_behind else _behind(report, gap)
        elif not math.isnan(gap):
            if gap > limit and not self.disagrees:
                message = f"{self._beyond(report, config, limit)}: {self._reason()}"
            self.disagrees = gap > limit
            if not self.disagrees and len(self.usual) < FIRST_STEPS:
                self.usual.append(gap)
        if message is None:
            return None
        return {"message": message, "metric": METRIC} | ({"limit": limit} if math.isfinite(limit) else {})

    def _beyond(self, report: StepReport, config: Config, limit: float) -> str:
        """Say how far apart they are, and what would be no news."""
        precise = limit >= explained_gap(config)
        why = f"{config.policy.dtype} explains" if precise else f"the first steps and {config.policy.dtype} explain"
        gap = f"{report.metrics[METRIC]:.2g} nats a token ({METRIC})"
        return f"step {report.step}: sampler and trainer differ by {gap}, {why} {limit:.2g}"

    def _reason(self) -> str:
        """Name the likeliest reason and what to look at."""
        if self.usual:
            return (
                "they have agreed before, so the generator may have stale weights; see whether sync/bytes has fallen;"
                " cluster.weights.probe=every compares them after each push"
            )
        return (
            "they have never agreed, so the generator may have loaded the weights wrongly, such as a head tied to the "
            "embedding that kept its first values, or another model or tokenizer; cluster.weights.probe=every "
            "compares them after each push"
        )


def _behind(report: StepReport, gap: float) -> str:
    """Say which weights have sampled, and how much it shows."""
    shown = "no token was trained on" if math.isnan(gap) else f"the gap is {gap:.2g} nats a token ({METRIC})"
    return (
        f"step {report.step}: the generator sampled with the weights after step {report.policy_version}, expected those"
        f" after step {report.step - 1}; {shown}; see why pushes do not reach it, in its log under logs/"
    )
