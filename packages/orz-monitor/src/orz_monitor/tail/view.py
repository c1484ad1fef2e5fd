"""The picture of a run on a terminal, at any width from 40 columns and any height from 8 lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from orz_monitor.printable import one_line
from orz_monitor.tail.lines import LastLines
from orz_monitor.tail.sparkline import sparkline
from orz_monitor.units import counted, duration

if TYPE_CHECKING:
    from orz_monitor.engine import Verdict
    from orz_monitor.findings import Finding
    from orz_monitor.run import Run
    from orz_monitor.tail.board import Row

_LABEL_WIDTH: Final = 19
_VALUE_WIDTH: Final = 9
_TWO_COLUMNS: Final = 140
"""From this width on, metrics stand in two columns."""
_FEWEST_LOG_LINES: Final = 3
_MOST_LOG_LINES: Final = 12
_LINES_ONCE: Final = 8
"""Log lines of a snapshot, which has no height."""
_SEVERITIES: Final = {"error": "bold red", "warn": "bold yellow", "info": "bold blue"}
_STATES: Final = {"finished": "green", "failed": "bold red", "interrupted": "yellow"}
_PHASE_STYLES: Final = (
    "bright_blue",
    "cyan",
    "magenta",
    "yellow",
    "red",
    "green",
    "bright_magenta",
    "white",
    "bright_black",
)
_TITLES_WIDTH: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What is known of a run at one moment, and how it is drawn.

    Attributes:
        title: what is followed.
        now: seconds since the Unix epoch.
        run: the run, or None before anything was read.
        verdict: the newest judgement, or None before the first.
        lines: the last lines of its log.
        notice: what is being waited for or read; drawn below.
        height: lines to fill; None for a snapshot, as many as it takes.
    """

    title: str
    now: float
    run: Run | None = None
    verdict: Verdict | None = None
    lines: LastLines = field(default_factory=LastLines)
    notice: str = ""
    height: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        coloured = console.color_system is not None and not console.no_color
        for line in self.drawn(options.max_width, ascii_only=options.ascii_only, coloured=coloured):
            line.no_wrap, line.overflow, line.end = True, "ellipsis", "\n"
            yield line

    def drawn(self, width: int, *, ascii_only: bool = False, coloured: bool = True) -> list[Text]:
        """Return the lines of the picture, none wider than `width` columns."""
        lines = self._head(width, ascii_only=ascii_only, coloured=coloured)
        rows, more = self._rows()
        columns = 2 if width >= _TWO_COLUMNS else 1
        left = None if self.height is None else self.height - len(lines) - _in_columns(len(rows), columns) - 2
        findings = self._findings(width, None if left is None else max(1, left - _FEWEST_LOG_LINES - 2))
        if left is not None:
            left -= len(findings) + 1
            num_lines = max(min(left - 1, _MOST_LOG_LINES if left > 2 * _MOST_LOG_LINES else left - 1), 0)
            rows += more[: max(0, (left - num_lines - 2) * columns)]
        else:
            num_lines = _LINES_ONCE
        wide = width // columns - 2 * (columns - 1)
        lines += _grid([_row(row, wide, ascii_only=ascii_only) for row in rows], columns)
        if findings:
            lines += [Text(""), *findings]
        log = self.lines.last(num_lines)
        if log:
            lines += [Text(""), _title("log", "", width), *(Text(line, "dim") for line in log)]
        return self._fitted(lines, width)

    def _fitted(self, lines: list[Text], width: int) -> list[Text]:
        """Cut the picture to its height, with the notice in its last line."""
        notice = [Text(self.notice, "yellow")] if self.notice else []
        if self.height is not None:
            lines = lines[: max(1, self.height - len(notice))]
            lines += [Text("")] * (self.height - len(notice) - len(lines))
        lines += notice
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return lines

    def _head(self, width: int, *, ascii_only: bool, coloured: bool) -> list[Text]:
        """Draw where the run stands: name, step, time left, state, and what the last step was spent on."""
        run = self.run
        if run is None:
            return [Text(one_line(self.title, 200), "bold cyan"), Text("")]
        from orz_monitor.tail.board import phase_split, planned_steps, split_words, time_left  # noqa: PLC0415 - numpy
        from orz_monitor.tail.key_metrics import last_complete  # noqa: PLC0415 - numpy

        planned, left = planned_steps(run), time_left(run, self.now)
        last = last_complete(run)
        stand = Text.assemble(("step ", "dim"), ("-" if last is None else str(last), "bold"))
        stand.append(f"/{planned}" if planned else "")
        over = str(run.state) in _STATES
        if not over:
            stand.append("  eta ", "dim").append(duration(left) if left is not None else "-")
        stand.append("  ").append(str(run.state) if over else self._age(), _STATES.get(str(run.state), "dim"))
        name = Text(one_line(self.title, 200), "bold cyan")
        name.truncate(max(8, width - stand.cell_len - 2), overflow="ellipsis")
        lines = [name + Text(" " * max(2, width - name.cell_len - stand.cell_len)) + stand]
        if planned and last is not None:
            lines.append(_bar(last / planned, width, ascii_only=ascii_only))
        split = phase_split(run)
        if split and coloured and not ascii_only:
            lines.append(_split_bar(list(split.values()), width))
        if split:
            lines.append(_in_phase_styles(split_words(split), list(split)))
        return [*lines, Text("")]

    def _age(self) -> str:
        """Say how long ago the last complete step ended; a log without times does not tell whether it goes on."""
        from orz_monitor.tail.board import step_end  # noqa: PLC0415 - numpy

        ended = step_end(self.run) if self.run is not None else None
        return "not ended" if ended is None else f"last step {duration(max(0.0, self.now - ended))} ago"

    def _rows(self) -> tuple[list[Row], list[Row]]:
        """Return the metrics everybody looks for, and the others."""
        if self.run is None:
            return [], []
        from orz_monitor.tail.board import more_rows, rows  # noqa: PLC0415 - numpy

        return list(rows(self.run)), list(more_rows(self.run)) if self.height is not None else []

    def _findings(self, width: int, most: int | None) -> list[Text]:
        """Draw the findings, worst first, in at most `most` lines."""
        verdict = self.verdict
        if verdict is None or not (verdict.findings or verdict.evaluated_metrics):
            return []  # that nothing was found in nothing is no news
        from orz_monitor.formats.text import headline  # noqa: PLC0415 - the rules come with it

        found = list(verdict.findings)
        said = headline(verdict) if found else f"nothing found by {counted(len(verdict.passed), 'rule')}"
        lines = [_title("findings", said, width)]
        room = len(found) * 2 if most is None else most - 1
        with_remedy = room >= 2 * len(found)
        for finding in found[: room // 2 if with_remedy else room]:
            lines += _finding(finding, with_remedy=with_remedy)
        return lines[: 1 + max(room, 0)]


def _finding(finding: Finding, *, with_remedy: bool) -> list[Text]:
    """Draw one finding in a line, or with what to try in two."""
    severity = str(finding.severity)
    line = Text.assemble((f"{severity:<5} ", _SEVERITIES[severity]), (f"{finding.code}  ", "bold"))
    line.append(one_line(finding.message, 500))
    if not with_remedy or not finding.causes:
        return [line]
    return [line, Text("      try: " + one_line(finding.causes[0].try_, 500).replace("`", ""), "dim")]


def _row(row: Row, width: int, *, ascii_only: bool) -> Text:
    """Draw one metric: label, newest value, curve."""
    label = Text(one_line(row.label, 200), "dim")
    wide = max(_LABEL_WIDTH, min(32, width // 3))
    label.truncate(wide, overflow="ellipsis", pad=True)
    style = "bold" if math.isfinite(row.last) else "bold red"
    curve = sparkline(row.curve, max(4, width - wide - _VALUE_WIDTH - 3), ascii_only=ascii_only)
    return label + Text(f" {row.shown:>{_VALUE_WIDTH}}  ", style) + Text(curve, "cyan")


def _grid(cells: Sequence[Text], columns: int) -> list[Text]:
    """Put cells into columns, filled from the top."""
    if columns == 1 or len(cells) < 2:  # noqa: PLR2004 - one column, or one cell
        return list(cells)
    height = _in_columns(len(cells), columns)
    widest = max(cell.cell_len for cell in cells[:height])
    lines = []
    for index in range(height):
        line = cells[index]
        if index + height < len(cells):
            line = line + Text(" " * (widest - line.cell_len + 4)) + cells[index + height]
        lines.append(line)
    return lines


def _in_columns(num: int, columns: int) -> int:
    """Return how many lines cells take in columns."""
    return -(-num // columns)


def _title(name: str, said: str, width: int) -> Text:
    """Draw the title of a section, with a rule to the right."""
    title = Text.assemble((name, "bold"), ("  " + said if said else "", "dim"), " ")
    return title + Text("-" * max(0, min(width, _TITLES_WIDTH) - title.cell_len), "dim")


def _bar(share: float, width: int, *, ascii_only: bool) -> Text:
    """Draw how far the run is."""
    done = round(min(max(share, 0.0), 1.0) * width)
    full, empty = "=-" if ascii_only else "━─"
    return Text(full * done, "green") + Text(empty * (width - done), "dim")


def _split_bar(parts: Sequence[float], width: int) -> Text:
    """Draw the shares of a step's phases, told apart by colour."""
    line, at, total = Text(), 0.0, sum(parts)
    for index, part in enumerate(parts):
        first, at = round(at / total * width), at + part
        line.append("▄" * (round(at / total * width) - first), _PHASE_STYLES[index % len(_PHASE_STYLES)])
    return line


def _in_phase_styles(words: str, phases: Sequence[str]) -> Text:
    """Colour the names of phases as in the bar."""
    text = Text(one_line(words), "dim")
    for index, phase in enumerate(phases):
        start = words.find(f" {phase} ")
        text.stylize(f"not dim {_PHASE_STYLES[index % len(_PHASE_STYLES)]}", start + 1, start + 1 + len(phase))
    return text
