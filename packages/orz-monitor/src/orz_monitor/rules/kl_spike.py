"""Single steps of a very large KL to the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.stats import episodes, local_median
from orz_monitor.units import in_nats, shown

_CAUSES: Final = (
    Cause(
        what="a few tokens with an extreme log ratio: estimator k3 is exponential in it",
        confirm="`policy/entropy` and `reward/mean` do not move at these steps",
        try_="set `kl.estimator=k2`; its spikes are milder",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    factor: float = limit(10.0, "times the median around it")
    smallest: float = limit(0.05, "nats a token; smaller spikes are of no consequence")
    longest: int = limit(3, "steps; what lasts longer is no spike")
    many_per_100_steps: int = limit(3, "spikes in 100 steps from which on they are a warning")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Count the spikes that go back within three steps; many are a warning."""
    kl = run.series("policy/kl_ref")
    around = local_median(kl.values, 21)
    high = (kl.values > limits.factor * around) & (kl.values > limits.smallest)
    spikes = [
        (a, b) for a, b in episodes(high, join=1) if b - a < limits.longest and b < len(kl) - 1 and a > 0
    ]  # a spike at the edge may be the start of a drift
    if not spikes:
        return []
    first, last = spikes[0][0], spikes[-1][1]
    worst = int(np.argmax(np.where(high, kl.values, 0.0)))
    many = len(spikes) > max(limits.many_per_100_steps, limits.many_per_100_steps * len(kl) / 100)
    times = "once" if len(spikes) == 1 else f"{len(spikes)} times"
    return [
        Finding(
            code="kl_spike",
            severity=Severity.WARN if many else Severity.INFO,
            title="KL spikes",
            message=f"KL to the reference jumped to more than {shown(limits.factor)} times its surroundings {times}, "
            f"at most to {in_nats(float(kl.values[worst]))} a token at step {int(kl.steps[worst])}, and went back.",
            evidence=(
                Evidence(
                    metric="policy/kl_ref",
                    observed=float(kl.values[worst]),
                    observed_is=f"step {int(kl.steps[worst])}",
                    baseline=float(around[worst]),
                    baseline_is="median of the 20 steps around",
                ),
            ),
            causes=_CAUSES,
            caveat="Single spikes do not end a run; many of them cost quality.",
            first_step=int(kl.steps[first]),
            last_step=int(kl.steps[last]),
        )
    ]


RULE = Rule(
    code="kl_spike",
    title="KL to the reference has no spikes",
    check=check,
    limits=Limits(),
    needs=("policy/kl_ref",),
    min_points=20,
)
