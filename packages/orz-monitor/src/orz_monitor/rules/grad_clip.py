"""Nearly every gradient is clipped: the clip sets the size of the steps, not the learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.frameworks import called, framework_of, setting_of
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.units import shown

_SETTING: Final = "policy.optimizer.max_grad_norm"
_CAUSES: Final = (
    Cause(
        what="the clip is far below the usual norm of this model",
        confirm="`policy/grad_norm` is steady, only above `policy.optimizer.max_grad_norm`",
        try_="raise `policy.optimizer.max_grad_norm` to twice the median, or leave it: Adam divides by the size anyway",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    share: float = limit(0.9, "of the steps with a clipped gradient")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Compare the norms with the clip of the configuration."""
    try:
        clip = float(setting_of(run, _SETTING))
    except ValueError:
        return []
    norm = run.series("policy/grad_norm")
    clipped = float((norm.values > clip).mean())
    if not clip > 0 or clipped <= limits.share:
        return []
    begins, ends = int(norm.steps[0]), int(norm.steps[-1])
    return [
        Finding(
            code="grad_clip",
            severity=Severity.INFO,
            title="Nearly every gradient is clipped",
            message=f"The gradient norm was above the clip of {shown(clip)} in {shown(100 * clipped)} % of the steps.",
            evidence=(
                Evidence(
                    metric="policy/grad_norm",
                    observed=float(np.median(norm.values)),
                    observed_is="median",
                    baseline=clip,
                    baseline_is=called(_SETTING, framework_of(run)),
                ),
            ),
            causes=_CAUSES,
            caveat="With Adam a constant factor of the gradient changes little.",
            first_step=begins,
            last_step=ends,
        )
    ]


RULE = Rule(
    code="grad_clip",
    title="gradients are not all clipped",
    check=check,
    limits=Limits(),
    needs=("policy/grad_norm",),
    setting=_SETTING,
    min_points=20,
    worst=Severity.INFO,
    source="a clip that always works sets the effective learning rate",
)
