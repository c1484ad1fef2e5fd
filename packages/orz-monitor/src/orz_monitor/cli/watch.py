"""`orz monitor watch`: tell somebody of each new finding."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from orz_cli.findings import Severity
from orz_cli.numbers import finite
from orz_monitor.addresses import located
from orz_monitor.cli.check import FailOn
from orz_monitor.cli.options import ConfigOption, DialectOption, PresetOption, RuleOption, dialects_with

_LONGEST_S: Final = 604_800
"""A week; the system sleeps for no more than some centuries."""


def watch(
    path: Annotated[
        Path, typer.Argument(parser=located, metavar="PATH", help="A run folder, or a log.", show_default=False)
    ],
    notify: Annotated[
        str,
        typer.Option(
            metavar="CMD|URL",
            help="A command with its arguments, run without a shell with the finding as JSON on its stdin; or an "
            "http(s) address, to which the JSON is posted.",
            show_default=False,
        ),
    ],
    every: Annotated[
        float,
        typer.Option(min=0.1, max=_LONGEST_S, callback=finite, metavar="SECONDS", help="How often to look."),
    ] = 10.0,
    severity: Annotated[FailOn, typer.Option("--from", help="Tell of findings from this severity on.")] = FailOn.WARN,
    state: Annotated[
        Path | None,
        typer.Option(help="Where to remember what was told; by default in the user's folder.", show_default=False),
    ] = None,
    *,
    preset: PresetOption = "",
    config: ConfigOption = None,
    rule: RuleOption = None,
    dialect: DialectOption = "",
    once: Annotated[bool, typer.Option("--once", help="Look once, and leave.")] = False,
) -> None:
    """Watch a run and tell of each new finding, until the run is over.

    A finding is told once, also when the watch is started again, and once more where it gets worse. What can't be
    told is tried again after 5 s, 10 s, and so on up to 10 min. Waits for a path that is not there yet.
    An error or signal at the end of a log is told once no step has followed for as long as two usual ones take,
    1 to 30 min: a program may handle its errors.
    Leaves with 1 where the run is over and has errors.
    """
    import time

    from orz_cli.exits import ExitCode
    from orz_monitor.judge import Judge
    from orz_monitor.publishing import refuse_inputs
    from orz_monitor.watch.memory import Memory, default_file
    from orz_monitor.watch.notify import notifier
    from orz_monitor.watch.watch import Watch

    if state is not None:
        refuse_inputs(state, [path], "--state")
    judge = Judge.of(preset=preset, config=config, users=rule or ())
    tell = notifier(notify)
    memory = Memory.load(state if state is not None else default_file(path, notify))
    watching = Watch(
        path=path,
        notify=tell,
        memory=memory,
        severity=Severity(severity.value),
        say=lambda text: typer.echo(text, err=True),
        once=once,
        judge=judge,
        dialects=dialects_with(dialect),
    )
    verdict = watching.look()
    while not once and not watching.done(verdict):
        time.sleep(every)
        verdict = watching.look()
    if verdict is None:
        raise typer.Exit(ExitCode.INCONCLUSIVE)
    raise typer.Exit(verdict.status().exit_code)
