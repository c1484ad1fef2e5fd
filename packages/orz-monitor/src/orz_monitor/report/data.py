"""A report as JSON: the check's document, with facts, summaries and phases beside it."""

from __future__ import annotations

import json
from dataclasses import asdict

from orz_monitor.formats.document import Checked, document, number
from orz_monitor.report.content import Content


def as_data(content: Content) -> str:
    """Return the report as indented JSON text; the keys of `orz monitor check --json` are all there."""
    facts = asdict(content.facts) | {
        "started": content.facts.started.isoformat() if content.facts.started else None,
        "tokens_trained": number(content.facts.tokens_trained),
        "tokens_per_second": number(content.facts.tokens_per_second),
        "wall_s": number(content.facts.wall_s),
        "train_s": number(content.facts.train_s),
    }
    summaries = {
        summary.name: {
            key: number(value) if isinstance(value, float) else value for key, value in asdict(summary).items()
        }
        for group in content.groups.values()
        for summary in group
    }
    whole = document([Checked(path=content.run.folder or content.run.path, verdict=content.verdict)]) | {
        "facts": facts,
        "metrics": summaries,
        "seconds": {phase: number(seconds) for phase, seconds in content.phases.items()},
        "not_logged": list(content.not_logged),
    }
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"
