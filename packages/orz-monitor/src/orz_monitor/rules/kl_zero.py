"""KL to the reference is exactly 0 although the policy is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run

_CAUSES: Final = (
    Cause(
        what="no reference is loaded, or the policy itself serves as one",
        confirm="`kl.loss_coef` is 0, or `reference.model` is empty and the weights are shared",
        try_="set `reference.model` to the starting model",
    ),
    Cause(
        what="the policy does not move: the optimizer holds other parameters, or another copy is the one in use",
        confirm="`sync/version` does not advance, or responses to the same prompt stay the same",
        try_="check that the optimizer holds the policy's parameters",
    ),
)
_MOVE: Final = ("policy/lr", "policy/grad_norm")
"""What moves a policy; with none of one of them it stays where it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    steps: int = limit(20, "steps in a row")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Tell whether the last 20 values and more are all exactly 0, while learning rate and gradient are not.

    Without a gradient, or with a rate of 0, a policy rightly stays where it is; that has rules of its own.
    """
    kl = run.series("policy/kl_ref").resolved()
    last = kl.last(limits.steps)
    frozen = run.series("policy/frozen").at(kl.steps[-1:])[0] == 1
    moved_by = (run.series(name).resolved().between(last.steps[0], last.steps[-1]).values for name in _MOVE)
    idle = any(len(values) and not values.any() for values in moved_by)
    if len(last) < limits.steps or last.values.any() or frozen or idle:
        return []
    begins, ends = int(kl.steps[-limits.steps]), int(kl.steps[-1])
    return [
        Finding(
            code="kl_zero",
            severity=Severity.INFO,
            title="The policy does not leave the reference",
            message=f"KL to the reference was exactly 0 in the last {limits.steps} steps, {begins} to {ends}.",
            evidence=(Evidence(metric="policy/kl_ref", observed=0.0, observed_is=f"steps {begins} to {ends}"),),
            causes=_CAUSES,
            caveat="With a reference that is renewed in every step it is rightly 0.",
            first_step=begins,
            last_step=ends,
        )
    ]


RULE = Rule(
    code="kl_zero",
    title="the policy leaves the reference",
    check=check,
    limits=Limits(),
    needs=("policy/kl_ref",),
    min_points=20,
    worst=Severity.INFO,
    source="a KL of exactly 0 after many updates is a missing reference or a policy that is not trained",
)
