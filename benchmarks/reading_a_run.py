"""Draws the pictures of docs/explanation/reading-a-run.md: simulated runs with a fault, and where it was found.

    python benchmarks/reading_a_run.py [--out docs/explanation/reading-a-run]

The charts are those of `orz monitor report`; the runs are functions of their seed, so the pictures change only with
the code.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from string import Template

from reading_a_run_faults import MORE, RESTARTS, STALLED

from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.report.charts import Marks, line_chart
from orz_monitor.report.escape import escaped
from orz_monitor.simulated import as_run, healthy
from orz_monitor.simulated_faults import FAULTS, Fault

STEPS, AT = 180, 130
LONGEST_TITLE = 54
"""Characters that fit in the usual size."""
METRICS = {
    "NaN": "policy/loss",
    "gradients x10": "policy/grad_norm",
    "reward collapse": "reward/mean",
    "zero variance": "rollout/zero_variance_frac",
}
PAGE = Template("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 380 186" width="760" height="372" role="img">
<title>$title</title>
<style>
svg {
  --card: #ffffff; --ink: #191b1f; --soft: #5d636c; --hair: #e4e4df; --grid: #eeeeea;
  --line: #2b5fd9; --raw: #2b5fd955; --error: #c8283c33; --warn: #d98a1a33; --info: #5d636c22; --bad: #c8283c;
  font: 8px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif;
}
@media (prefers-color-scheme: dark) {
  svg {
    --card: #181b20; --ink: #e9eaec; --soft: #a3a9b2; --hair: #2a2e35; --grid: #23272d; --line: #82aaff;
    --raw: #82aaff6b; --error: #ff6b7d44; --warn: #ffb45444; --info: #a3a9b233; --bad: #ff6b7d;
  }
}
.card { fill: var(--card); stroke: var(--hair); }
.name { fill: var(--ink); font-size: 10px; font-weight: 600; }
.tick { fill: var(--soft); }
.tick.y { text-anchor: end; }
.tick.x { text-anchor: middle; }
.grid { stroke: var(--grid); }
.line { fill: none; stroke: var(--line); stroke-width: 1.5; }
.line.raw { stroke: var(--raw); stroke-width: .9; }
.span.error { fill: var(--error); }
.span.warn { fill: var(--warn); }
.span.info { fill: var(--info); }
.restart { stroke: var(--soft); stroke-dasharray: 3 3; }
.nonfinite { stroke: var(--bad); }
.cursor { display: none; }
</style>
<rect class="card" x=".5" y=".5" width="379" height="185" rx="8"/>
<text class="name" x="14" y="20"$small>$title</text>
$chart
</svg>
""")


def picture(fault: Fault | None, metric: str) -> str:
    """Draw one metric of a run with a fault, and shade what was found; without a fault, of the healthy run."""
    metrics = healthy(STEPS, seed=11, kind="ppo")
    if fault is not None:
        fault.inject(metrics, AT)
    restarts, stalled = RESTARTS.get(fault.name, ()) if fault else (), fault is not None and fault.name == STALLED
    if stalled:
        metrics = {name: values[: AT + 1] for name, values in metrics.items()}
    run = as_run(metrics, restarts=restarts, finished=not stalled, silence_s=7200.0 if stalled else 5.0)
    found = [f for f in judge(run).findings if fault is not None and f.code in fault.codes]
    grave = [
        f for f in found if f.severity is not Severity.INFO
    ] or found  # a note, where the reward rises all the same
    spans = tuple(
        (f.first_step, f.last_step, str(f.severity))
        for f in grave
        if f.first_step is not None and f.last_step is not None
    )
    if stalled:
        spans = tuple((AT, STEPS - 1, severity) for _, _, severity in spans)
    marks = Marks(first=0, last=STEPS - 1, spans=spans[:1], restarts=restarts)
    title = f"{metric}: {fault.name if fault is not None else 'a healthy run'}"
    title += f", found by {found[0].code}" if found else ""
    series = run.seconds[metric.removeprefix("seconds/")] if metric.startswith("seconds/") else run.metrics[metric]
    chart = line_chart(series, marks, label=title)
    chart = re.sub(r' (?:tabindex|data-\w+)="[^"]*"', "", chart)  # what only the report's script reads
    chart = chart.replace("<svg ", '<svg x="10" y="26" width="360" height="150" ', 1)
    small = ' style="font-size: 8.5px"' if len(title) > LONGEST_TITLE else ""
    return PAGE.substitute(title=escaped(title), small=small, chart=chart)


def pictures() -> dict[str, str]:
    """Return file name to picture."""
    made = {f"healthy-{name.replace('/', '-')}.svg": picture(None, name) for name in HEALTHY}
    for fault in (*FAULTS, *MORE):
        name = re.sub(r"\W+", "-", fault.name.lower()).strip("-")
        made[f"{name}.svg"] = picture(fault, fault.ramp or METRICS[fault.name])
    return made


HEALTHY = (
    "reward/mean",
    "policy/entropy",
    "policy/kl_ref",
    "policy/grad_norm",
    "rollout/response_tokens_mean",
    "rollout/truncated_frac",
    "critic/explained_var",
    "critic/loss",
    "policy/loss",
    "policy/kl_old",
    "policy/clip_frac",
    "policy/lr",
    "rollout/zero_variance_frac",
    "mismatch/logprob_abs_mean",
    "seconds/total",
)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/explanation/reading-a-run"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, text in pictures().items():
        (arguments.out / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
