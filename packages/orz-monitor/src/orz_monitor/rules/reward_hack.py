"""The reward rises in a way that looks as if it were gamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.kl_jump import Jump, jump_with_kl
from orz_monitor.rules.levels import before_and_during, warmup_end
from orz_monitor.rules.progress import WINDOW, Progress, level, progress
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.units import in_nats, shown

_CAUSES: Final = (
    Cause(
        what="the policy found something that the reward function pays whatever the answer",
        confirm="read ten of the best-paid responses in `rollouts/` from the last steps",
        try_="make `reward.function` refuse that; resume from before the change",
    ),
    Cause(
        what="it learnt the format first: the reward rises and responses change their length with good reason",
        confirm="the evaluation rises too",
        try_="nothing; set `data.eval` and `eval.every_steps`, so that it can be told",
    ),
)
_CAVEAT: Final = "Such signs find a gamed reward well afterwards, and poorly in advance: read the samples."


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    part_gain: float = limit(0.2, "gain of one part of the reward")
    part_loss: float = limit(0.2, "of its best level, that another part has lost meanwhile")
    reward_gain: float = limit(0.15, "gain of the reward")
    length_change: float = limit(0.3, "of the length of responses, up or down")
    entropy_left: float = limit(0.3, "of the entropy that is left")
    kl_faster: float = limit(3.0, "times what KL gained in the 20 steps before the reward jumped, in the 20 after")
    kl_gain: float = limit(0.05, "nats a token that KL gains after the jump, at least")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Look for a part of the reward that gains what another loses, else for several metrics that change together.

    That is: reward, length and entropy over the run, or reward and KL within some steps.
    """
    return _parts(run, limits) or _pattern(run, limits) or _jump(run, limits)


def _parts(run: Run, limits: Limits) -> list[Finding]:
    """Compare the parts of the reward: first levels after the warm-up with last ones."""
    names = [name for name in run.metrics if name.startswith("reward/part/")]
    parts = [part for name in names if len(part := run.series(name)) >= 3 * WINDOW]
    gains = {part.name: _end(part) - _start(part, run) for part in parts}
    losses = {
        part.name: (_start(part, run) - _end(part)) / abs(_start(part, run)) for part in parts if _start(part, run)
    }
    up = max(gains, key=lambda name: gains[name], default="")
    down = max(losses, key=lambda name: losses[name], default="")
    if not up or not down or gains[up] < limits.part_gain or losses[down] < limits.part_loss or up == down:
        return []
    begins, ends = warmup_end(run), int(run.steps[-1])
    return [
        Finding(
            code="reward_hack",
            severity=Severity.WARN,
            title="One part of the reward rises at the cost of another",
            message=f"{up} rose by {shown(gains[up])} while {down} fell by {shown(100 * losses[down])} %: consistent "
            "with a reward that is gamed.",
            evidence=tuple(_compared(run.series(name), run) for name in (up, down)),
            causes=_CAUSES,
            caveat=_CAVEAT,
            first_step=begins,
            last_step=ends,
        )
    ]


def _pattern(run: Run, limits: Limits) -> list[Finding]:
    """Look for a reward that rises while length leaps and entropy goes, unless an evaluation rises with it."""
    reward, length = run.series("reward/mean"), run.series("rollout/response_tokens_mean")
    entropy = run.series("policy/entropy")
    if min(len(reward), len(length), len(entropy)) < 4 * WINDOW:
        return []
    gain = _end(reward) - _start(reward, run)
    change = _end(length) / _start(length, run) - 1 if _start(length, run) > 0 else 0.0
    left = _end(entropy) / _start(entropy, run) if _start(entropy, run) > 0 else 1.0
    gamed = gain > limits.reward_gain and abs(change) > limits.length_change and left < limits.entropy_left
    if not gamed or _evaluation_rises(run) or _no_evaluation(run):
        return []
    begins, ends = warmup_end(run), int(run.steps[-1])
    return [
        Finding(
            code="reward_hack",
            severity=Severity.WARN,
            title="The reward rises, and the evaluation does not",
            message=f"The reward rose by {shown(gain)} while responses became {shown(100 * abs(change))} % "
            f"{'longer' if change > 0 else 'shorter'}, entropy fell to {shown(100 * left)} %, and no evaluation rose: "
            "consistent with a reward that is gamed.",
            evidence=tuple(_compared(series, run) for series in (reward, length, entropy)),
            causes=_CAUSES,
            caveat=_CAVEAT,
            first_step=begins,
            last_step=ends,
        )
    ]


def _jump(run: Run, limits: Limits) -> list[Finding]:
    """Look for KL that speeds up where the reward jumps, unless an evaluation rises with it; without one it is a note.

    A format that is learnt at once looks the same.
    """
    jump = jump_with_kl(run)
    if jump is None or jump.after - jump.before < limits.reward_gain or _evaluation_rises(run):
        return []
    if jump.kl_after < max(limits.kl_gain, limits.kl_faster * jump.kl_before):
        return []
    unknown = _no_evaluation(run)
    held_out = "nothing held out was tried twice" if unknown else "no evaluation rose"
    return [
        Finding(
            code="reward_hack",
            severity=Severity.INFO if unknown else Severity.WARN,
            title="The reward jumps, and KL speeds up",
            message=f"The reward went from {shown(jump.before)} to {shown(jump.after)} after step {jump.step}, KL to "
            f"the reference gained {in_nats(jump.kl_before)} a token in the 20 steps before and "
            f"{shown(jump.kl_after)} in the 20 after, and {held_out}: consistent with a reward that is gamed.",
            evidence=_around(run, jump),
            causes=_CAUSES,
            caveat=_CAVEAT,
            first_step=jump.step,
            last_step=jump.last_step,
        )
    ]


def _around(run: Run, jump: Jump) -> tuple[Evidence, ...]:
    """Return reward and KL before a jump and after it."""
    names = ("reward/mean", "policy/kl_ref")
    return tuple(before_and_during(run.series(name), jump.step + 1, jump.last_step) for name in names)


def _no_evaluation(run: Run) -> bool:
    """Tell whether nothing held out was tried twice: then the pattern is what success looks like, too."""
    names = [name for name in run.metrics if name.startswith("eval/") and name.endswith("/accuracy")]
    return not any(len(run.series(name)) > 1 for name in names)


def _evaluation_rises(run: Run) -> bool:
    """Tell whether any held-out accuracy is above its first value, or the task is solved."""
    names = [name for name in run.metrics if name.startswith("eval/") and name.endswith("/accuracy")]
    values = [run.series(name).values for name in names]
    solved = progress(run, int(run.steps[0]), int(run.steps[-1])) is Progress.SOLVED
    return solved or any(len(v) > 1 and v[-2:].max() > v[0] + 0.02 for v in values)


def _start(series: Series, run: Run) -> float:
    """Return the first level after the warm-up."""
    return level(series.between(warmup_end(run), float(run.steps[-1])).values, at_end=False)


def _end(series: Series) -> float:
    """Return the last level."""
    return level(series.values, at_end=True)


def _compared(series: Series, run: Run) -> Evidence:
    """Return a metric's first and last level."""
    return Evidence(
        metric=series.name,
        observed=_end(series),
        observed_is="median of the last 10 steps",
        baseline=_start(series, run),
        baseline_is="median of 10 steps after the warm-up",
    )


RULE = Rule(
    code="reward_hack",
    title="the reward rises for the right reason",
    check=check,
    limits=Limits(),
    needs=("reward/mean",),
    min_points=30,
    worst=Severity.WARN,
    absorbs=frozenset({"length_collapse"}),
    source="over-optimisation shows in several metrics at once; each alone is what success looks like",
)
