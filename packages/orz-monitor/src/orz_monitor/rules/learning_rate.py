"""The learning rate is 0, leaps, or is unusual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.model_size import billions, is_adapted
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.units import shown

_ENDED: Final = (
    Cause(
        what="the schedule was reckoned for fewer steps than the run has",
        confirm="the rate fell to 0 and stays there; compare the planned steps with those of the schedule",
        try_="set `policy.optimizer.schedule=constant`, or correct the number of steps",
    ),
)
_ZERO: Final = (
    Cause(
        what="the schedule never leaves its first step, or warms up for longer than the run",
        confirm="the configured rate is above 0; compare `policy.optimizer.warmup_steps` with the steps of the run",
        try_="set `policy.optimizer.warmup_steps` to a few steps, and step the schedule after each update",
    ),
    Cause(
        what="the rate itself is set to 0, as for a dry run",
        confirm="look at `policy.optimizer.lr` in the configuration",
        try_="set `policy.optimizer.lr` to 1e-6, and go on from the start: nothing was learnt",
    ),
)
_LEAPT: Final = (
    Cause(
        what="another schedule or another rate after a restart",
        confirm="compare the configurations before and after",
        try_="set `policy.optimizer.lr` as it was",
    ),
)
_ROUNDING: Final = 1e-6
"""Of a logarithm: a tenth, as it is rounded, may be a little less than one."""
_STEEPER: Final = 3.0
"""Times as steep as just before, a decay may get: a square root does 2.4 times, a straight line and a cosine don't."""
_AS_LARGE: Final = 0.99
"""Times the policy's rate; less is smaller, and not rounded."""
_SLOW_CRITIC: Final = (
    Cause(
        what="the rates were exchanged, or the critic was left at a default of its own",
        confirm="compare `critic.optimizer.lr` with `policy.optimizer.lr`",
        try_="set `critic.optimizer.lr` to five times `policy.optimizer.lr`",
    ),
)
_UNUSUAL: Final = (
    Cause(
        what="a slip of the decimal point",
        confirm="compare with the recipe that you started from",
        try_="set `policy.optimizer.lr` to 1e-6 for full fine-tuning of a billion parameters and more",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    steps: int = limit(10, "steps with a rate of 0: at the end, or all that there are")
    leap: float = limit(10.0, "times, from one step to the next")
    largest: float = limit(1e-4, "of the policy; above is unusual for full fine-tuning", least="largest_of_large")
    largest_of_large: float = limit(1e-5, "of a policy that the settings tell to be large and wholly trained")
    large: float = limit(1.5, "billions of parameters, from which on a policy is large")
    tiny: float = limit(1e-3, "of its largest value; below, the schedule has ended")
    left: float = limit(0.05, "of the planned steps still to come, for an end of the schedule to be early")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Look at the end of the policy's rate, at leaps, and at its size by itself and against the critic's."""
    rate = run.series("policy/lr")
    found = [*_zero(run, rate, limits), *_ended(run, rate.resolved(), limits), *_leaps(run, rate, limits)]
    return [*found, *_unusual(run, rate, limits), *_critic(run, rate)]


def _zero(run: Run, rate: Series, limits: Limits) -> list[Finding]:
    """Tell whether the rate has been exactly 0 since the beginning, but for steps in which only the critic trains.

    One that is printed with a few decimals, as `0.000`, is small and not 0.
    """
    trains = run.series("policy/frozen").at(rate.steps) != 1
    if (rate.resolved().values != 0).any() or int(trains.sum()) < limits.steps:
        return []
    begins, ends = int(rate.steps[trains][0]), int(rate.steps[-1])
    return [
        _finding(
            Severity.WARN,
            "The learning rate is 0",
            f"The policy's learning rate was exactly 0 in all {int(trains.sum())} steps from {begins} to {ends}, so "
            "nothing is learnt.",
            _ZERO,
            (begins, ends),
            (0.0, None, ""),
            caveat="A logger that rounds a value before it prints it writes a small rate as 0.0, too.",
        )
    ]


def _ended(run: Run, rate: Series, limits: Limits) -> list[Finding]:
    """Tell whether the rate has been next to 0 for some steps while the run goes on."""
    top = float(rate.values.max())
    tail = rate.values[-limits.steps :]
    if len(tail) < limits.steps or top <= 0 or bool((tail > limits.tiny * top).any()):
        return []
    tiny = rate.values <= limits.tiny * top
    begins = int(rate.steps[len(tiny) - int(np.argmin(tiny[::-1]))])
    if _near_end(run, rate, begins, limits):
        return []
    return [
        _finding(
            Severity.WARN,
            "The learning rate has run out",
            f"The policy's learning rate is {shown(float(tail[-1]))} since step {begins}; it was up to {shown(top)}.",
            _ENDED,
            (begins, int(rate.steps[-1])),
            (float(tail[-1]), top, "its largest"),
        )
    ]


def _near_end(run: Run, rate: Series, begins: int, limits: Limits) -> bool:
    """Tell whether the rate went out at the planned end of the run, as it should."""
    planned = next((event.data.get("steps") for event in run.events if event.event in {"start", "config"}), None)
    if not isinstance(planned, int | float) or planned <= 0:
        planned = float(rate.steps[-1]) if run.state == "finished" else float("inf")
    return begins >= (1 - limits.left) * planned - limits.steps


def _leaps(run: Run, rate: Series, limits: Limits) -> list[Finding]:
    """Tell where the rate changed more than tenfold at once, after the warm-up and without a restart.

    A fall to next to nothing is the end of a schedule, and no leap; nor is one that a decay leads to.
    """
    before, after = rate.values[:-1], rate.values[1:]
    known = (before > 0) & (after > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(known, np.abs(np.log(after) - np.log(before)), 0.0)
    ends = after <= limits.tiny * float(rate.values.max())
    grows_from_start = np.maximum.accumulate(rate.values)[:-1] <= before  # a warm-up begins anywhere
    quiet = ~(grows_from_start & (after > before) & (rate.steps[1:] - rate.steps[0] <= 20))  # noqa: PLR2004 - warm-up
    restarts = set(run.restarts)
    leap = [
        int(index) + 1
        for index in np.flatnonzero((change > np.log(limits.leap) + _ROUNDING) & quiet & ~ends & ~_decays(rate))
        if int(rate.steps[index + 1]) not in restarts
    ]
    if not leap:
        return []
    step, first = int(rate.steps[leap[0]]), leap[0]
    old, new = float(rate.values[first - 1]), float(rate.values[first])
    return [
        _finding(
            Severity.WARN,
            "The learning rate leaps",
            f"The policy's learning rate went from {shown(old)} to {shown(new)} at step {step}.",
            _LEAPT,
            (step, step),
            (new, old, "the step before"),
        )
    ]


def _decays(rate: Series) -> NDArray[np.bool_]:
    """Tell which changes from value to value go on with a fall, about as steep as it was, [K - 1]."""
    fall = -np.diff(rate.values) / np.diff(rate.steps)
    return np.concatenate(([False], (fall[1:] > 0) & (fall[1:] <= _STEEPER * fall[:-1])))


def _unusual(run: Run, rate: Series, limits: Limits) -> list[Finding]:
    """Note a rate that is far above what language models bear, where the run itself is not tiny."""
    top = float(rate.values.max())
    tokens = run.series("rollout/response_tokens_mean").values
    tiny_task = len(tokens) > 0 and float(np.median(tokens)) < 100  # noqa: PLR2004 - toys bear larger rates
    size = billions(run)
    large = size is not None and size >= limits.large and not is_adapted(run)
    usual = limits.largest_of_large if large else limits.largest
    if top <= usual or tiny_task:
        return []
    begins = int(rate.steps[int(np.argmax(rate.values))])
    return [
        _finding(
            Severity.INFO,
            "The learning rate is unusually high",
            f"The policy's learning rate is up to {shown(top)}; full fine-tuning"
            f"{f' of {shown(size)} billion parameters' if large and size else ''} usually takes 1e-7 to 1e-5.",
            _UNUSUAL,
            (begins, int(rate.steps[-1])),
            (top, usual, "unusual from here on"),
        )
    ]


def _critic(run: Run, rate: Series) -> list[Finding]:
    """Note a critic that learns more slowly than the policy that it is to judge."""
    of_critic = run.series("critic/lr").at(rate.steps)
    known = (of_critic > 0) & (rate.values > 0)
    if not known.any():
        return []
    ours, theirs = float(np.median(rate.values[known])), float(np.median(of_critic[known]))
    if theirs >= _AS_LARGE * ours:
        return []
    steps = rate.steps[known]
    return [
        _finding(
            Severity.INFO,
            "The critic learns more slowly than the policy",
            f"The critic's learning rate is {shown(theirs)}, below the policy's {shown(ours)}.",
            _SLOW_CRITIC,
            (int(steps[0]), int(steps[-1])),
            (ours, theirs, "the critic's"),
        )
    ]


def _finding(
    severity: Severity,
    title: str,
    message: str,
    causes: tuple[Cause, ...],
    span: tuple[int, int],
    seen: tuple[float, float | None, str],
    caveat: str = "LoRA takes rates ten times as high.",
) -> Finding:
    """Make a finding about the rate; `seen` is the value, what it is compared with, if anything, and what that is."""
    evidence = Evidence(
        metric="policy/lr", observed=seen[0], observed_is=f"step {span[1]}", baseline=seen[1], baseline_is=seen[2]
    )
    return Finding(
        code="learning_rate",
        severity=severity,
        title=title,
        message=message,
        evidence=(evidence,),
        causes=causes,
        caveat=caveat,
        first_step=span[0],
        last_step=span[1],
    )


RULE = Rule(
    code="learning_rate",
    title="the learning rate is as planned",
    check=check,
    limits=Limits(),
    needs=("policy/lr",),
    min_points=3,
    worst=Severity.WARN,
    source="a schedule made for fewer steps than the run has trains nothing in the rest; a rate of 0 nothing at all",
)
