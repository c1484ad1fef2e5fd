"""Samples that the log shows are one symbol over and over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.faults import ONE_SYMBOL, faults, last_step, place_of
from orz_monitor.rules.levels import recovered
from orz_monitor.run import Run

_CAUSES: Final = (
    Cause(
        what="the weights or the logits are NaN: of equal scores the first token wins, in many vocabularies `!`",
        confirm="a loss, gradient or KL was not finite before; a checkpoint of that step has NaN: `orz ckpt verify`",
        try_="resume from the last checkpoint whose samples are text, with `policy.optimizer.lr` halved",
    ),
    Cause(
        what="the sampler holds other weights than the trainer",
        confirm="the trainer's metrics are as before, and `mismatch/logprob_abs_mean` is large",
        try_="compare a checksum of the weights on both sides after one synchronisation",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    many: int = limit(3, "lines with such samples from which on they are a warning; fewer are a note")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Report the lines of the log with 64 exclamation marks in a row as one finding."""
    events = faults(run, {ONE_SYMBOL})
    if not events:
        return []
    first, last = (event.step if event.step is not None else last_step(run) for event in (events[0], events[-1]))
    times = max(len(events), *(count for event in events if isinstance(count := event.data.get("count"), int)), 0)
    severity = Severity.WARN if times >= limits.many else Severity.INFO
    file, line = place_of(events[0])
    return [
        Finding(
            code="one_symbol",
            severity=milder(severity) if last is not None and recovered(run, last) else severity,
            title="Samples are one symbol over and over",
            message=f"{'One line' if times == 1 else f'{times} lines'} of the log "
            f"{'has' if times == 1 else 'have'} 64 exclamation marks in a row, and more.",
            causes=_CAUSES,
            caveat="A prompt or a reward may ask for such a text.",
            first_step=first,
            last_step=last,
            file=file,
            line=line,
        )
    ]


RULE = Rule(
    code="one_symbol",
    title="samples in the log are text",
    check=check,
    limits=Limits(),
    worst=Severity.WARN,
    source="after a NaN, models of public runs wrote nothing but exclamation marks, and the reward went to 0",
)
