"""Draws a run's reward and held-out accuracy as one SVG that brings its own colours, for light and dark pages.

    python benchmarks/reward_curve.py RUN --out FILE.svg [--set sums]

The chart is that of `orz monitor report`, which is part of a page; this puts a title, a legend and colours around it.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from string import Template

from orz_monitor.loading import load_run
from orz_monitor.report.charts import Marks, line_chart
from orz_monitor.report.escape import escaped
from orz_monitor.units import shown

PAGE = Template("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 222" width="800" height="444" role="img">
<title>$title</title>
<style>
svg {
  --card: #ffffff; --ink: #191b1f; --soft: #5d636c; --hair: #e4e4df; --grid: #eeeeea;
  --line: #2b5fd9; --raw: #2b5fd955; --eval: #b4450b;
  font: 8px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif;
}
@media (prefers-color-scheme: dark) {
  svg {
    --card: #181b20; --ink: #e9eaec; --soft: #a3a9b2; --hair: #2a2e35; --grid: #23272d;
    --line: #82aaff; --raw: #82aaff6b; --eval: #ffab70;
  }
}
.card { fill: var(--card); stroke: var(--hair); }
.name { fill: var(--ink); font-size: 10px; font-weight: 600; }
.key, .tick { fill: var(--soft); }
.tick.y { text-anchor: end; }
.tick.x, .axis { text-anchor: middle; }
.grid { stroke: var(--grid); }
.line { fill: none; stroke: var(--line); stroke-width: 1.5; stroke-linejoin: round; stroke-linecap: round; }
.line.raw { stroke: var(--raw); stroke-width: .9; }
.dot.eval { fill: var(--card); stroke: var(--eval); stroke-width: 1.5; }
.checkpoint { fill: var(--soft); }
.restart { stroke: var(--soft); stroke-dasharray: 3 3; }
.cursor { display: none; }
</style>
<rect class="card" x=".5" y=".5" width="399" height="221" rx="8"/>
<text class="name" x="16" y="22">$title</text>
<path class="line raw" d="M17 38l4 -5l4 6l4 -5l4 3"/><text class="key" x="38" y="39">reward of a step</text>
<path class="line" d="M118 39c6 0 10 -6 16 -6"/><text class="key" x="139" y="39">smoothed</text>
<circle class="dot eval" cx="196" cy="36" r="3"/><text class="key" x="204" y="39">held-out accuracy</text>
<path class="checkpoint" d="M291 38.5h6l-3 -5z"/><text class="key" x="301" y="39">checkpoint</text>
$chart
<text class="key axis" x="217" y="213">step</text>
</svg>
""")
"""Twice as large on a page as in its own units, which are those of the chart."""


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", default="sums", help="the held-out set")
    arguments = parser.parse_args()
    arguments.out.write_text(draw(arguments.run, held_out=arguments.set), encoding="utf-8")


def draw(folder: Path, *, held_out: str) -> str:
    """Return the SVG of a run.

    Args:
        folder: of the run.
        held_out: the held-out set whose accuracy is drawn beside the reward.

    Raises:
        UnreadableRunError: there is no run in the folder.
    """
    run = load_run(folder)
    reward, accuracy = run.series("reward/mean"), run.series(f"eval/{held_out}/accuracy")
    saved = run.marks("checkpoint_saved")
    marks = Marks(first=int(run.steps[0]), last=int(run.steps[-1]), restarts=run.restarts, checkpoints=saved)
    label = f"reward from {shown(reward.values[0])} to {shown(reward.values[-1])}"
    chart = line_chart(reward, marks, label=label, points=accuracy)
    chart = re.sub(r' (?:tabindex|data-\w+)="[^"]*"', "", chart)  # what only the report's script reads
    chart = chart.replace("<svg ", '<svg x="10" y="46" width="380" height="158" ', 1)
    return PAGE.substitute(title=escaped(f"{run.name}, {marks.last} steps"), chart=chart)


if __name__ == "__main__":
    main()
