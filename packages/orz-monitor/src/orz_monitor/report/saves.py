"""Checkpoints and evaluations as one table: which was best, and which was the last good one before a finding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.report.content import Content
from orz_monitor.report.escape import escaped
from orz_monitor.units import counted, shown

MOST_ROWS: Final = 24
"""Rows shown; of more, the first, the last and those with a remark."""
_COLUMNS: Final = (("reward/mean", "reward"), ("policy/kl_ref", "KL"), ("policy/entropy", "entropy"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Save:
    """A step with a checkpoint or an evaluation.

    Attributes:
        step: the step.
        saved: whether a checkpoint of it was committed and not removed since.
        values: what was measured there, in the order of the columns; NaN where nothing was.
        remarks: what makes it stand out.
    """

    step: int
    saved: bool
    values: tuple[float, ...]
    remarks: tuple[str, ...]


def saves(content: Content) -> list[Save]:
    """List the steps with a checkpoint or an evaluation, in order."""
    run = content.run
    removed = set(run.marks("checkpoint_removed"))
    saved = [step for step in content.facts.checkpoints if step not in removed]
    evaluated = {int(step) for name, _ in content.accuracies for step in run.series(name).steps}
    steps = np.array(sorted({*saved, *evaluated}), dtype=np.int64)
    columns = [run.series(name).at(steps) for name in column_names(content)]
    best = dict(_best(content))
    onset = first_trouble(content)
    last_good = max((step for step in saved if onset is not None and step < onset), default=None)
    rows = []
    for index, step in enumerate(steps.tolist()):
        remarks = [f"best {name}" for name, at in best.items() if at == step]
        if step == last_good:
            remarks.append(f"last checkpoint before the first finding, step {onset}")
        elif onset is not None and step >= onset and step in saved:
            remarks.append("after a finding began")
        rows.append(
            Save(
                step=step,
                saved=step in saved,
                values=tuple(float(column[index]) for column in columns),
                remarks=tuple(remarks),
            )
        )
    return rows


def first_trouble(content: Content) -> int | None:
    """Return the step where the first error or warning began; None where there is none with a step."""
    begun = [
        finding.first_step
        for finding in content.verdict.findings
        if finding.severity is not Severity.INFO and finding.first_step is not None
    ]
    return min(begun, default=None)


def column_names(content: Content) -> list[str]:
    """Return the metrics of the table's columns."""
    return [*(name for name, _ in content.accuracies), *(name for name, _ in _COLUMNS if content.run.logged(name))]


def saves_table(content: Content) -> str:
    """Draw the table; nothing where no checkpoint was saved and no evaluation made."""
    rows = saves(content)
    if not rows:
        return ""
    labels = dict([*content.accuracies, *_COLUMNS])
    heads = "".join(f'<th class="num">{escaped(labels[name])}</th>' for name in column_names(content))
    shown_rows = _thinned(rows)
    body = "".join(_row(row) for row in shown_rows)
    left = counted(len(rows) - len(shown_rows), "more row is", "more rows are")
    left_out = f'<p class="names">{left} not shown.</p>' if rows != shown_rows else ""
    return (
        '<h2>Checkpoints and evaluations</h2><div class="card saves"><table><thead><tr><th>step</th>'
        f"<th>checkpoint</th>{heads}<th></th></tr></thead><tbody>{body}</tbody></table>{left_out}</div>"
    )


def _best(content: Content) -> Iterator[tuple[str, int]]:
    """Yield each held-out set and the step at which it was solved best."""
    for name, label in content.accuracies:
        series = content.run.series(name)
        if len(series):
            yield label.lower(), int(series.steps[int(np.argmax(series.values))])


def _thinned(rows: list[Save]) -> list[Save]:
    """Keep the rows that fit: first, last, those with a remark of their own, then evenly spread ones."""
    if len(rows) <= MOST_ROWS:
        return rows
    marked = [i for i, row in enumerate(rows) if any(not remark.startswith("after") for remark in row.remarks)]
    spread = np.linspace(0, len(rows) - 1, MOST_ROWS - len(marked[: MOST_ROWS // 2])).round().astype(int).tolist()
    return [rows[index] for index in sorted({*marked[: MOST_ROWS // 2], *spread})]


def _row(row: Save) -> str:
    """Draw one row."""
    cells = "".join(f'<td class="num">{escaped(shown(v)) if np.isfinite(v) else "-"}</td>' for v in row.values)
    good = any(not remark.startswith("after") for remark in row.remarks)
    remarks = escaped("; ".join(row.remarks))
    return (
        f"<tr{' class=good' if good else ''}><td>{row.step}</td><td>{'saved' if row.saved else '-'}</td>{cells}"
        f"<td>{remarks}</td></tr>"
    )
