"""What `orz monitor explain` says: a rule, a phase or a metric."""

from __future__ import annotations

import difflib
import re
import textwrap
from typing import Final

from orz_cli.errors import UsageError
from orz_monitor.metrics.catalogue import look_up, means_a_metric, nearest
from orz_monitor.metrics.explain import also_means, explain
from orz_monitor.records import PHASES
from orz_monitor.rules import RULES, Rule

_CODES: Final = tuple(rule.code for rule in RULES)
_PRINTED: Final = re.compile(r"(?:error|warn|info)\[(?P<code>\w+)\]:?")
_ALL: Final = "docs/reference/rules.md and docs/reference/metrics-explained.md"


def explained(asked: str, *, width: int = 100) -> str:
    """Explain a rule, a phase of the step, or the metric that a word such as `kl` means.

    Args:
        asked: the word.
        width: columns to fill.

    Raises:
        UsageError: nothing has such a name; the nearest names are given.
    """
    word = asked.strip().lower()
    rule = _rule_of(word)
    if rule is not None:
        return _rule(rule, width) + also_means(asked, look_up(word) if means_a_metric(word) else (), width)
    if word.removeprefix("seconds/") in PHASES and not (word in PHASES and means_a_metric(word)):
        return _phase(word.removeprefix("seconds/"), width)
    try:
        return explain(asked, width=width, also=(f"seconds/{word}",) if word in PHASES else ())
    except UsageError:
        near = _near(word)
        raise UsageError(
            f"{asked[:80]!r}: no rule and no metric of that name is known",
            remedy=f"did you mean {' or '.join(near)}?" if near else f"{_ALL} list them all",
        ) from None


def _rule_of(word: str) -> Rule | None:
    """Return the rule of a code, also as `orz monitor check` prints it, `warn[stall]`; None for another word."""
    printed = _PRINTED.fullmatch(word)
    code = (printed["code"] if printed else word).replace("-", "_")
    return next((rule for rule in RULES if rule.code == code), None)


def _near(word: str) -> tuple[str, ...]:
    """Return up to three names that are spelled much like a word, the nearest first, and one of a rule if any is."""
    near = nearest(word, (*_CODES, *PHASES, *(f"seconds/{phase}" for phase in PHASES)))
    rules = difflib.get_close_matches(word, _CODES, n=1)
    return near if set(near) & set(_CODES) else (*near[: 3 - len(rules)], *rules)


def _phase(phase: str, width: int) -> str:
    """Explain one phase of the step."""
    return "\n".join([f"seconds/{phase}  [s]", _filled(f"{PHASES[phase]}; seconds of each step", width)])


def _filled(line: str, width: int) -> str:
    """Wrap a line, indented by two, and what follows it by four."""
    return textwrap.fill(line, max(width, 40), initial_indent="  ", subsequent_indent="    ", break_long_words=False)


def _rule(rule: Rule, width: int) -> str:
    """Explain one rule: what it looks for, what it needs for that, and its thresholds."""
    lines = [rule.title]
    if rule.needs:
        lines.append(f"needs: {', '.join(rule.needs)}")
    if rule.needs_any:
        lines.append(f"needs one of: {', '.join(rule.needs_any)}")
    if rule.min_points > 1:
        lines.append(f"from {rule.min_points} values on")
    lines += [f"{name} = {value:g}: {meaning}" for name, (value, meaning) in rule.thresholds.items()]
    if rule.absorbs:
        lines.append(f"says more than, on the same steps: {', '.join(sorted(rule.absorbs))}")
    if rule.source:
        lines.append(f"why: {rule.source}")
    return "\n".join([f"{rule.code}  [rule]", *(_filled(line, width) for line in lines)])
