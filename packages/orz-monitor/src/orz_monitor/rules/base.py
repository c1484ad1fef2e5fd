"""What a rule is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Finding, Sighting, rank
from orz_monitor.frameworks import called, framework_of, setting_of
from orz_monitor.presets import ALL, PPO_LIKE
from orz_monitor.run import Run

__all__ = ["ALL", "PPO_LIKE", "NoLimits", "Rule", "limit"]


def limit(default: float, meaning: str, *, least: str = "") -> Any:
    """Make a threshold of a rule: a field with a default and its meaning and unit in a few words.

    The meaning ends up in the reference of rules, the name in `.orz-monitor.toml`.

    Args:
        default: its value where nobody sets another.
        meaning: what it is, and its unit.
        least: another threshold of the rule, below which it means nothing, such as that of a warning for an error's.
    """
    return field(default=default, metadata={"meaning": meaning, "least": least})


@dataclass(frozen=True, kw_only=True, slots=True)
class NoLimits:
    """The thresholds of a rule that has none."""


def _nothing(run: Run) -> str:  # noqa: ARG001 - others look at it
    """Want nothing of a run but metrics."""
    return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One thing that can be wrong with a run.

    Attributes:
        code: its name, which its findings carry.
        title: what it looks for, in a few words.
        check: returns a finding or a sighting for each episode, given a run and the thresholds; pure.
        limits: its thresholds: a dataclass of numbers, each made by `limit`.
        needs: metrics that must all be logged.
        needs_any: metrics of which one must be logged.
        lacks: says what it misses of a run that is no metric, such as times; empty where it misses nothing.
        hinders: says why it can't judge a run whose metrics it has, such as steps that it shares with no other run.
        remedy: how to have that, where it misses something or is hindered.
        is_asked_for: whether an option of the user's brought it: a run that it can't judge has not passed.
        setting: of the configuration, by our name for it, without which the rule says nothing.
        min_points: values of each metric in `needs`, or else of one in `needs_any`, without which it says nothing.
        presets: the kinds of run it applies to.
        absorbs: rules whose findings on the same steps say the same less well, and are dropped.
        worst: the most severe finding it may make; milder ones stay as they are.
        most: findings that are shown; of more, the most severe ones, earlier first.
        source: where the rule comes from, and why.
    """

    code: str
    title: str
    check: Callable[[Run, Any], Sequence[Finding | Sighting]]
    limits: Any = NoLimits()
    needs: tuple[str, ...] = ()
    needs_any: tuple[str, ...] = ()
    lacks: Callable[[Run], str] = _nothing
    hinders: Callable[[Run], str] = _nothing
    remedy: str = ""
    is_asked_for: bool = False
    setting: str = ""
    min_points: int = 1
    presets: frozenset[str] = ALL
    absorbs: frozenset[str] = frozenset()
    worst: Severity = Severity.ERROR
    most: int = 5
    source: str = ""

    @np.errstate(over="ignore", divide="ignore", invalid="ignore")  # a log holds whatever numbers it holds
    def judge(self, run: Run) -> list[Finding]:
        """Return what is shown of what the rule finds in a run: the most severe, and how many more there are."""
        seen = self.check(run, self.limits)
        worst = sorted(seen, key=lambda one: rank(self._capped(one.severity)))  # stable: earlier ones first
        found = [self._described(one) for one in worst[: self.most]]
        if len(seen) > self.most:
            more = f" {len(seen) - self.most} more such episodes are not shown."
            found[-1] = replace(found[-1], message=found[-1].message + more)
        return found

    def _capped(self, severity: Severity) -> Severity:
        """Make a severity no worse than the rule may be."""
        return max(severity, self.worst, key=rank)

    def _described(self, one: Finding | Sighting) -> Finding:
        """Return the finding, no more severe than the rule may be."""
        severity = self._capped(one.severity)
        if isinstance(one, Sighting):
            return one.describe(severity)
        return one if one.severity is severity else replace(one, severity=severity)

    @property
    def thresholds(self) -> dict[str, tuple[float, str]]:
        """Name to value and meaning of every threshold."""
        return {
            item.name: (getattr(self.limits, item.name), item.metadata.get("meaning", ""))
            for item in fields(self.limits)
        }

    @property
    def orders(self) -> dict[str, str]:
        """Name of each threshold that may not be below another one to the name of that."""
        return {item.name: least for item in fields(self.limits) if (least := item.metadata.get("least"))}

    def unmet(self, run: Run) -> str:
        """Say why the rule can't judge this run; empty if it can."""
        reason = self.unlogged(run) or self.hinders(run)
        if reason or not self.setting or setting_of(run, self.setting):
            return reason
        return f"the setting {called(self.setting, framework_of(run))} is not known"

    def unlogged(self, run: Run) -> str:
        """Say which metrics of a run are missing, or too short; empty if none is."""
        lacking = self.lacks(run) or ", ".join(name for name in self.needs if not _known(run, name))
        if lacking:
            return f"not logged: {lacking}"
        if self.needs_any and not any(_known(run, name) for name in self.needs_any):
            return f"not logged: {' or '.join(self.needs_any)}"
        undefined = [name for name in self.needs if not run.logged(name)]
        if undefined:
            return f"no finite value of {', '.join(undefined)}"
        known = [logged for name in self.needs_any for logged in _known(run, name)]
        if self.needs_any and not any(run.logged(name) for name in known):
            return f"no finite value of {' or '.join(known)}"
        short = [name for name in self.needs if len(run.series(name)) < self.min_points]
        if known and not self.needs and all(len(run.series(name)) < self.min_points for name in known):
            short = [max(known, key=lambda name: len(run.series(name)))]
        if short:
            return f"too few steps: {len(run.series(short[0]))} of {short[0]}, the rule needs {self.min_points}"
        return ""


def _known(run: Run, name: str) -> list[str]:
    """Return the metrics of a run that a name stands for; `<part>` in it stands for any part."""
    if "<" not in name:
        return [name] if name in run.metrics else []
    before, after = re.split(r"<\w+>", name, maxsplit=1)
    return [logged for logged in run.metrics if logged.startswith(before) and logged.endswith(after)]
