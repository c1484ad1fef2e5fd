"""The top and the bottom of the page: verdict, the numbers people look for first, and how it was made."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from orz_monitor import __version__
from orz_monitor.formats.text import headline, span
from orz_monitor.report.content import Content
from orz_monitor.report.escape import escaped
from orz_monitor.report.panels import points_of_a_chart
from orz_monitor.stats import ends
from orz_monitor.units import counted, duration, shown

ENDS = 5
"""Steps at either end whose median stands for it."""


def header(content: Content) -> str:
    """Draw the verdict, what the run was, and its most important numbers."""
    run, facts = content.run, content.facts
    word, css = content.verdict_words
    when = f"{facts.started:%d %B %Y, %H:%M} UTC" if facts.started else ""
    kind = "PPO" if run.has_critic else "without a critic"
    about = [run.name, kind, span(run.steps.tolist()), str(run.state), when]
    found, remedy = content.verdict.undecided
    reason = f'<p class="notice warn">{escaped(f"{_sentence(found)} {_sentence(remedy)}")}</p>' if found else ""
    return (
        f'<header><p class="eyebrow">{escaped(" · ".join(part for part in about if part))}</p>'
        f'<div class="row"><h1>{escaped(facts.title)}</h1><span class="badge {css}">{escaped(word)}</span></div>'
        f'<p class="lede">{escaped(_lede(content))}</p>{reason}'
        f'<dl class="tiles">{"".join(_tiles(content))}</dl></header>'
    )


def _sentence(text: str) -> str:
    """Begin a text with a capital and end it with a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def footer(content: Content) -> str:
    """Say what was read, how it was drawn, and how to make this page again."""
    cover = content.run.coverage
    unreadable = f", {counted(len(cover.unreadable), 'unreadable line')}" if cover.unreadable else ""
    return (
        f"<footer>{counted(cover.num_records, 'record')}{unreadable}, "
        f"{counted(len(cover.recognised), 'metric')} recognised"
        f"{f', {len(cover.unrecognised)} not' if cover.unrecognised else ''}. "
        f"Charts draw at most {points_of_a_chart(content)} points of a series and "
        "keep its extremes; bold lines are smoothed, pale ones are as logged. "
        f"Made by orz-monitor {escaped(__version__)} with "
        f"<code>orz monitor report {escaped(content.run.name)}</code>.</footer>"
    )


def _lede(content: Content) -> str:
    """Say in one sentence how the run did."""
    run, facts = content.run, content.facts
    reward = run.series("reward/mean").values
    parts = [headline(content.verdict).capitalize()]
    if len(reward) > 1:
        first, last = (shown(value) for value in ends(reward))
        parts.append(f"the mean reward went from {first} to {last}")
    if facts.num_steps and facts.took_s is not None:
        parts.append(f"{counted(facts.num_steps, 'step')} took {duration(facts.took_s)}")
    return "; ".join(parts) + "."


def _tiles(content: Content) -> Iterable[str]:
    """Yield the numbers people look for first."""
    run = content.run
    for name, label in (("reward/mean", "Reward"), *content.accuracies, ("policy/entropy", "Entropy, nats")):
        values = run.series(name).values
        if len(values):
            note = f"first and last {ENDS} steps" if len(values) >= 2 * ENDS else "first and last"
            before, after = (shown(value) for value in ends(values, ENDS))
            yield _tile(label, f'<span class="was">{escaped(before)} →</span> {escaped(after)}', note)
    speed = content.facts.tokens_per_second
    if speed is not None:
        trained = shown(content.facts.tokens_trained or 0.0)
        yield _tile("Trained", f"{escaped(shown(speed))} <small>tokens/s</small>", f"{trained} tokens in all")
    if "total" in run.seconds and len(run.seconds["total"].finite()):
        steps = run.seconds["total"].finite().values
        slowest = f"slowest {duration(float(steps.max()))}"
        yield _tile("Step time", escaped(duration(float(np.median(steps)))), f"median, {slowest}")


def _tile(label: str, value: str, note: str) -> str:
    """Draw one number; `value` is HTML."""
    return (
        f'<div class="tile card"><dt>{escaped(label)}</dt><dd>{value}</dd><div class="note">{escaped(note)}</div></div>'
    )
