"""The reference page of all rules, `docs/reference/rules.md`, made from the rules themselves."""

from __future__ import annotations

from collections.abc import Iterable

from orz_monitor.presets import ALL, PRESETS, Preset
from orz_monitor.rules import RULES, Rule, envelope, regression

_HEAD = """\
# Rules of orz monitor

<!-- Made from orz_monitor.rules and orz_monitor.presets by orz_monitor.rules.page; edit those, not this page. -->

Every rule that `orz monitor check` and `orz monitor report` apply. Codes are stable: scripts may match them. *Worst* is
the most severe finding a rule may make; most rules grade a finding by what the reward does meanwhile and by whether the
episode is over. A rule whose metric is not logged says so instead of passing.

Thresholds, severities and findings to ignore stand in `.orz-monitor.toml` beside the run or in the working directory,
or in the file that `--config` names:

```toml
preset = "kl-free"                # else it is recognised

[rules.truncation]
warn_frac = 0.2                   # a threshold of the table below
severity = "warn"                 # the worst it may be: error, warn, info or off
min_points = 50                   # values that it waits for

[rules.clip_frac]
persistence = "4/8"               # short for hits = 4 and window = 8

[[ignore]]
rule = "kl_spike"
reason = "two bad prompts, known"
until = 2026-12-01                # and perhaps first_step, last_step
```

A threshold that means nothing below another one of its rule, such as an error's below the warning's or `window` below
`hits`, is refused there; so set both where the other one would be passed.

A rule of your own is a function of a run that returns a finding, a list of them or None: `--rule my_rules:check`,
or an entry point of the group `orz.monitor.rules`.
"""


def rules_page() -> str:
    """Return the page."""
    course = envelope.rule("orz-7b")
    optional = (
        Rule(
            code=regression.CODE,
            title="the run does as well as a baseline (`--baseline RUN`)",
            check=lambda *_: [],
            limits=regression.Limits(),
            source="medians of the last steps that both runs have; a difference counts beyond tolerance and noise",
        ),
        Rule(
            code=envelope.CODE,
            title=f"the run keeps to a published course (`--envelope NAME`: {', '.join(envelope.ENVELOPES)})",
            check=lambda *_: [],
            limits=course.limits,
            needs_any=course.needs_any,
            worst=course.worst,
            source=course.source,
        ),
    )
    parts = [_HEAD, "## Kinds of run\n", _presets(), "\n## Rules\n"]
    parts += [_rule(rule) for rule in (*RULES, *optional)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _presets() -> str:
    """Return the table of presets."""
    lines = ["| preset | meaning | what differs |", "|---|---|---|"]
    lines += [f"| `{preset.name}` | {preset.meaning} | {_differs(preset)} |" for preset in PRESETS.values()]
    return "\n".join(lines)


def _differs(preset: Preset) -> str:
    """Say what a preset changes."""
    limits = [f"`{code}.{name}` = {value:g}" for code, some in preset.limits.items() for name, value in some.items()]
    worst = [f"`{code}` at worst {severity}" for code, severity in preset.worst.items()]
    off = [f"no `{code}`" for code in sorted(preset.off)]
    return "; ".join([*limits, *worst, *off]) or "-"


def _rule(rule: Rule) -> str:
    """Return the section of one rule."""
    needs = [", ".join(f"`{name}`" for name in rule.needs)] if rule.needs else []
    needs += [" or ".join(f"`{name}`" for name in rule.needs_any)] if rule.needs_any else []
    needed = [", and ".join(needs)] if needs else []
    needed += [f"the setting `{rule.setting}`"] if rule.setting else []
    facts = [f"worst {rule.worst}"]
    facts += [f"needs {' and '.join(needed)}"] if needed else []
    facts += [f"from {rule.min_points} values on"] if rule.min_points > 1 else []
    facts += [f"only {_listed(rule.presets)}"] if rule.presets != ALL else []
    facts += [f"speaks for {_listed(rule.absorbs)}"] if rule.absorbs else []
    lines = [f"### {rule.code}\n", f"Expects that {_lower(rule.title)}. " + "; ".join(facts).capitalize() + "."]
    if rule.source:
        lines.append(f"\nWhy: {rule.source}.")
    if rule.thresholds:
        lines += ["\n| threshold | default | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | {value:g} | {meaning} |" for name, (value, meaning) in rule.thresholds.items()]
    return "\n".join(lines) + "\n"


def _listed(names: Iterable[str]) -> str:
    """Return names in backquotes."""
    return ", ".join(f"`{name}`" for name in sorted(names))


def _lower(text: str) -> str:
    """Begin a title with a small letter, unless its first word is an abbreviation."""
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
