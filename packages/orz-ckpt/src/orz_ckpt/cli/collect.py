"""`orz ckpt collect`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orz_ckpt.cli.nodes import HostsOption, RayOption
from orz_ckpt.cli.options import FailOn, FailOnOption, Format, FormatOption, JsonOption, chosen_format
from orz_ckpt.cli.output import write_judged
from orz_cli.errors import UsageError
from orz_cli.findings import Severity


def collect(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="The run's folder, as for locate; several are taken to be pieces of one run.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="DEST", help="The run's folder on this machine.", show_default=False)
    ],
    ray: RayOption = None,
    hosts: HostsOption = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be copied, and copy nothing.")] = False,
    output: FormatOption = Format.TEXT,
    as_json: JsonOption = False,
    fail_on: FailOnOption = FailOn.ERROR,
) -> None:
    """Bring the pieces of a run together on this machine, every byte checked on the way.

    Sources are only read. Nothing at DEST is replaced: a file that is there with the same bytes stays, one with others
    is an error, as are two nodes with different bytes under one name. After a kill the same command goes on where it
    stopped. What the nodes of a step recorded becomes its manifest, written last, if all of it is there.
    """
    from orz_ckpt.cluster.collect import collect as bring
    from orz_ckpt.cluster.collect_text import collect_text
    from orz_ckpt.cluster.connect import connected
    from orz_ckpt.cluster.terminal import wide_console
    from orz_ckpt.progress import shown_progress
    from orz_ckpt.report.judged import Verdict

    chosen = chosen_format(output, as_json=as_json)
    if "://" in str(to) or ":/" in str(to):
        raise UsageError(f"--to {to}: not a folder of this machine", remedy="collect to a folder, then `orz ckpt copy`")
    if any(not run or "\0" in run for run in runs):
        raise UsageError("RUN is empty", remedy="give the path of a run")
    with connected(ray=ray, hosts=hosts) as fleet, shown_progress("collecting") as progress:
        done = bring(fleet, runs, to, dry_run=dry_run, progress=progress)
    severity = Severity(fail_on.value)
    write_judged(
        Verdict(command="collect", path=", ".join(done.runs), findings=done.findings, seconds=done.seconds),
        chosen,
        severity,
        document=done.to_json,
        text=lambda severity: wide_console().print(collect_text(done, severity)),
    )
    raise typer.Exit(done.status(severity).exit_code)
