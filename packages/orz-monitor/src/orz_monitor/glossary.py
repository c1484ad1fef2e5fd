"""What `orz monitor explain` says: a rule, a phase or a metric."""

from __future__ import annotations

from orz_cli.errors import UsageError
from orz_monitor.metrics.catalogue import nearest
from orz_monitor.metrics.explain import explain
from orz_monitor.records import PHASES
from orz_monitor.rules import RULES, Rule


def explained(asked: str) -> str:
    """Explain a rule, a phase of the step, or the metric that a word such as `kl` means.

    Raises:
        UsageError: nothing has such a name; the nearest names are given.
    """
    word = asked.strip().lower()
    rule = next((rule for rule in RULES if rule.code == word), None)
    if rule is not None:
        return _rule(rule)
    phase = word.removeprefix("seconds/")
    if phase in PHASES:
        return f"seconds/{phase}  [s]\n  {PHASES[phase]}; seconds of each step"
    try:
        return explain(asked)
    except UsageError:
        near = nearest(word, (*(rule.code for rule in RULES), *PHASES, *(f"seconds/{phase}" for phase in PHASES)))
        if not near:
            raise
        raise UsageError(
            f"{asked[:80]!r}: no rule and no metric of that name is known", remedy=f"did you mean {' or '.join(near)}?"
        ) from None


def _rule(rule: Rule) -> str:
    """Explain one rule: what it looks for, what it needs for that, and its thresholds."""
    lines = [f"{rule.code}  [rule]", f"  {rule.title}"]
    if rule.needs:
        lines.append(f"  needs: {', '.join(rule.needs)}")
    if rule.needs_any:
        lines.append(f"  needs one of: {', '.join(rule.needs_any)}")
    if rule.min_points > 1:
        lines.append(f"  from {rule.min_points} values on")
    lines += [f"  {name} = {value:g}: {meaning}" for name, (value, meaning) in rule.thresholds.items()]
    if rule.absorbs:
        lines.append(f"  says more than, on the same steps: {', '.join(sorted(rule.absorbs))}")
    if rule.source:
        lines.append(f"  why: {rule.source}")
    return "\n".join(lines)
