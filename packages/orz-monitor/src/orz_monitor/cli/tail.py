"""`orz monitor tail`: a run while it goes on."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orz_cli.errors import UsageError
from orz_cli.exits import ExitCode
from orz_monitor.addresses import located
from orz_monitor.cli.options import ConfigOption, DialectOption, PresetOption, RuleOption, dialects_with, judge_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from orz_monitor.dialects import Dialect
    from orz_monitor.engine import Verdict
    from orz_monitor.run import Run
    from orz_monitor.tail.lines import LastLines
    from orz_monitor.tail.source import Source


def tail(
    path: Annotated[
        Path,
        typer.Argument(
            parser=located,
            metavar="PATH",
            help="A log, a run folder, a folder of them (the newest is followed), or one of a run's logs (all are).",
            show_default=False,
        ),
    ],
    *,
    preset: PresetOption = "",
    config: ConfigOption = None,
    rule: RuleOption = None,
    dialect: DialectOption = "",
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text; the default in a pipe.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show how the run stands now, and leave.")] = False,
    stay: Annotated[bool, typer.Option("--stay", help="Go on when the run has ended; it may be resumed.")] = False,
) -> None:
    """Follow a run on the terminal: metrics, time left, findings as they arise, the last lines of its log.

    Waits for a file that is not there yet. Ends when the run ends, with exit code 0, or 1 where it failed; `q` leaves
    before that. What the findings mean for a build is what `orz monitor check` says.
    """
    if once and stay:
        raise UsageError("--once and --stay exclude each other", remedy="give one of them, or neither")
    from orz_cli.output import OutputConsole
    from orz_monitor.tail.source import Source

    console = OutputConsole(highlight=False)
    judge = judge_of(path, preset=preset, config=config, users=rule or ())
    dialects = dialects_with(dialect)
    run: Run | None
    with Source(path, dialects) as source:
        if once:
            run = _snapshot(source, path, None if plain else console, judge, dialects)
        elif plain or not console.is_terminal or console.is_dumb_terminal:
            from orz_monitor.tail.listener import is_heard
            from orz_monitor.tail.plain import PlainLines

            heard = partial(is_heard, sys.stdout)
            run, _ = PlainLines(source, typer.echo, is_heard=heard, stay=stay, judge_run=judge).follow()
        else:
            from orz_monitor.tail.screen import Screen

            run, _ = Screen(source, console, stay=stay, judge_run=judge).show()
    failed = run is not None and str(run.state) == "failed"
    raise typer.Exit(ExitCode.FAILED if failed else ExitCode.OK)


def _snapshot(
    source: Source,
    path: Path,
    console: Console | None,
    judge: Callable[[Run], Verdict],
    dialects: Sequence[type[Dialect]] | None,
) -> Run:
    """Read all there is, print one picture, and return the run.

    Args:
        source: what is shown; the log's last lines come from it.
        path: where it is.
        console: what the picture is drawn on; None for plain lines.
        judge: judges the run.
        dialects: the dialects to read with; None for all known ones.

    Raises:
        UnreadableRunError: there is nothing to read, or no metric in it.
    """
    import time

    from orz_monitor.loading import load_run
    from orz_monitor.tail.places import newest_run

    newest = None
    with suppress(OSError):  # what can't be looked at is told when it is read
        newest = newest_run(path) if path.is_dir() else None
    place = newest if newest is not None and newest.is_dir() else path  # logs of a folder are read together
    run = load_run(place, dialects=dialects)
    if console is None:
        from orz_monitor.tail.plain import snapshot_lines

        for line in snapshot_lines(run, judge(run), time.time()):
            typer.echo(line)
        return run
    from orz_monitor.rotation import read_with
    from orz_monitor.tail.view import View

    lines = _last_lines(source, newest or path)
    notice = read_with(run.earlier)
    console.print(View(title=run.name, now=time.time(), run=run, verdict=judge(run), lines=lines, notice=notice))
    return run


def _last_lines(source: Source, place: Path) -> LastLines:
    """Return the last lines of a log, or of a run folder's; none of records, a store, a URL or standard input."""
    from orz_monitor.run_files import RECORDS_FILE, holds_records, run_folder_of
    from orz_monitor.tail.lines import last_lines_of
    from orz_monitor.transport.pipes import is_pipe

    if (place / RECORDS_FILE).is_file() or run_folder_of(place) is not None:
        source.poll(budget_s=0)
        return source.lines
    return source.lines if is_pipe(place) or holds_records(place) else last_lines_of(place)
