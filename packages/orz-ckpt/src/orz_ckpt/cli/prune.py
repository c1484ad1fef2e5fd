"""`orz ckpt prune`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orz_ckpt.cli.options import FailOn, FailOnOption, Format, FormatOption, JsonOption, chosen_format
from orz_ckpt.cli.output import write_judged
from orz_ckpt.findings import Level
from orz_ckpt.urls import path_here
from orz_cli.errors import UsageError
from orz_cli.findings import Severity


def prune(
    run: Annotated[
        Path,
        typer.Argument(
            parser=path_here,
            metavar="RUN",
            help="The run's folder, or the one of its checkpoints.",
            show_default=False,
        ),
    ],
    keep_last: Annotated[
        int,
        typer.Option("--keep-last", min=0, metavar="N", help="Keep the N newest committed steps.", show_default=False),
    ] = 0,
    keep_every: Annotated[
        int,
        typer.Option("--keep-every", min=0, metavar="K", help="Keep steps that K divides.", show_default=False),
    ] = 0,
    keep: Annotated[
        list[int] | None,
        typer.Option("--keep", min=0, metavar="STEP", help="Keep this step; may be given several times."),
    ] = None,
    level: Annotated[
        Level, typer.Option(help="How much of the newest step is read before anything older is deleted.")
    ] = Level.FULL,
    output: FormatOption = Format.TEXT,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and delete nothing; so it is without --yes, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete what the plan says.")] = False,
    as_json: JsonOption = False,
    fail_on: FailOnOption = FailOn.ERROR,
) -> None:
    """Delete old checkpoints of a run; without --yes, say which, and delete nothing.

    Without --yes, as with --dry-run, the plan is shown with the command that carries it out, and the exit code is 0.
    A committed step goes if no option keeps it and a newer committed step, verified now, stays. So the newest good
    step is never deleted, and nothing is while none is good. Links, saves in flight and uncommitted steps are left
    alone. A step is renamed before its files go: no reader sees half of one, and after a kill the next call goes on.
    """
    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.cluster.terminal import wide_console
    from orz_ckpt.prune.plan import Keep
    from orz_ckpt.prune.run import prune as do
    from orz_ckpt.prune.run import prune_command
    from orz_ckpt.prune.text import prune_text
    from orz_ckpt.report.judged import Verdict

    chosen = chosen_format(output, as_json=as_json)
    if yes and dry_run:
        raise UsageError("--yes and --dry-run exclude each other", remedy="give one of them")
    wanted = Keep(last=keep_last, every=keep_every, steps=frozenset(keep or ()))
    with shown_progress("verifying") as progress:
        done = do(run, wanted, dry_run=not yes, level=level, progress=progress)
    again = prune_command(run, wanted, level=level, yes=True)
    severity = Severity(fail_on.value)
    write_judged(
        Verdict(command="prune", path=str(run), findings=done.findings, seconds=done.seconds),
        chosen,
        severity,
        document=done.to_json,
        text=lambda severity: wide_console().print(prune_text(done, again, severity)),
    )
    raise typer.Exit(done.status(severity).exit_code)
