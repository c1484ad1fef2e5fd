"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orz_monitor.findings import Finding
from orz_monitor.run import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One thing that can be wrong with a run.

    Attributes:
        code: its name, which its findings carry.
        title: what it looks for, in a few words.
        check: returns a finding for each episode; pure.
        needs: metrics that must all be logged.
        needs_any: metrics of which one must be logged.
        min_points: values of each needed metric without which the rule says nothing.
        presets: the kinds of run it applies to.
        absorbs: rules whose findings on the same steps say the same less well, and are dropped.
    """

    code: str
    title: str
    check: Callable[[Run], list[Finding]]
    needs: tuple[str, ...] = ()
    needs_any: tuple[str, ...] = ()
    min_points: int = 1
    presets: frozenset[str] = field(default_factory=lambda: frozenset({"ppo", "grpo"}))
    absorbs: frozenset[str] = frozenset()

    def unmet(self, run: Run) -> str:
        """Say why the rule can't judge this run; empty if it can."""
        missing = [name for name in self.needs if name not in run.metrics]
        if missing:
            return f"not logged: {', '.join(missing)}"
        if self.needs_any and not any(name in run.metrics for name in self.needs_any):
            return f"not logged: {' or '.join(self.needs_any)}"
        undefined = [name for name in self.needs if not run.logged(name)]
        if undefined:
            return f"no finite value of {', '.join(undefined)}"
        if self.needs_any and not any(run.logged(name) for name in self.needs_any):
            return f"no finite value of {' or '.join(name for name in self.needs_any if name in run.metrics)}"
        short = [name for name in self.needs if len(run.series(name)) < self.min_points]
        if short:
            return f"too few steps: {len(run.series(short[0]))} of {short[0]}, the rule needs {self.min_points}"
        return ""
