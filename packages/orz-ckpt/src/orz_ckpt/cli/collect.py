"""`orz ckpt collect`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

from typing import Annotated

import typer

from orz_ckpt.cli.nodes import SEARCH_S, HostsOption, RayOption, SecondsOption, search_time
from orz_ckpt.cli.options import FailOn, FailOnOption, Format, FormatOption, JsonOption, chosen_format
from orz_ckpt.cli.output import write_judged
from orz_ckpt.urls import local_path, path_here
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
        str,
        typer.Option(
            "--to", metavar="DEST", help="The run's folder on this machine, or a URL: s3://...", show_default=False
        ),
    ],
    ray: RayOption = None,
    hosts: HostsOption = None,
    *,
    seconds: SecondsOption = SEARCH_S,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be copied, and copy nothing.")] = False,
    output: FormatOption = Format.TEXT,
    as_json: JsonOption = False,
    fail_on: FailOnOption = FailOn.ERROR,
) -> None:
    """Bring the pieces of a run together, on this machine or in a store, every byte checked on the way.

    Sources are only read. Nothing at DEST is replaced: a file that is there with the same bytes stays, one with others
    is an error, as are two nodes with different bytes under one name. After a kill the same command goes on where it
    stopped. What the nodes of a step recorded becomes its manifest, written last, if all of it is there.

    A DEST such as s3://BUCKET/RUN goes through fsspec: s3:// needs s3fs, gs:// gcsfs.
    """
    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.cluster.collect.run import collect as bring
    from orz_ckpt.cluster.collect.text import collect_text
    from orz_ckpt.cluster.collect.url import collect_to_url
    from orz_ckpt.cluster.connect import connected
    from orz_ckpt.cluster.terminal import wide_console
    from orz_ckpt.remote import Remote
    from orz_ckpt.report.judged import Verdict

    chosen = chosen_format(output, as_json=as_json)
    budget_s = search_time(seconds)
    if not to or "\0" in to:
        raise UsageError("--to is empty", remedy="give a folder or a URL")
    asked = [str(path_here(run)) for run in runs]
    folder = local_path(to)
    remote = Remote(to, write=True) if folder is None else None
    with connected(ray=ray, hosts=hosts) as fleet, shown_progress("collecting") as progress:
        if remote is not None:
            done = collect_to_url(fleet, asked, remote, dry_run=dry_run, budget_s=budget_s, progress=progress)
        else:
            assert folder is not None  # noqa: S101  it is one or the other
            done = bring(fleet, asked, folder, dry_run=dry_run, budget_s=budget_s, progress=progress)
    severity = Severity(fail_on.value)
    write_judged(
        Verdict(command="collect", path=", ".join(done.runs), findings=done.findings, seconds=done.seconds),
        chosen,
        severity,
        document=done.to_json,
        text=lambda severity: wide_console().print(collect_text(done, severity)),
    )
    raise typer.Exit(done.status(severity).exit_code)
