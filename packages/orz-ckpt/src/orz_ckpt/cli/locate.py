"""`orz ckpt locate`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

from typing import Annotated

import typer

from orz_ckpt.cli.nodes import SEARCH_S, HostsOption, RayOption, SecondsOption, search_time
from orz_ckpt.cli.options import FailOn, FailOnOption, Format, FormatOption, JsonOption, chosen_format
from orz_ckpt.cli.output import write_judged
from orz_ckpt.quoting import shell_path
from orz_ckpt.urls import path_here
from orz_cli.errors import UsageError
from orz_cli.findings import Severity


def locate(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]",
            help="The run's folder as its configuration names it, absolute or not; without it, all weights.",
            show_default=False,
        ),
    ] = None,
    ray: RayOption = None,
    hosts: HostsOption = None,
    *,
    seconds: SecondsOption = SEARCH_S,
    output: FormatOption = Format.TEXT,
    as_json: JsonOption = False,
    fail_on: FailOnOption = FailOn.ERROR,
) -> None:
    """Say on which nodes pieces of a run lie, whether they are whole together, and what brings them here.

    Each node looks at the path itself and, by the same name, below everything that a relative path may have meant
    there: working directories of Ray's processes, home directories, Ray's runtime environments. Weights are told by
    file names; nothing is read but small JSON files, manifests, headers, and what ranks' files say of their tensors:
    never the numbers in them. Where nothing of that name is found, other weights in those folders are listed.
    """
    from orz_ckpt.cluster.connect import connected
    from orz_ckpt.cluster.locate import locate as ask
    from orz_ckpt.cluster.locate_text import locate_text
    from orz_ckpt.cluster.terminal import wide_console
    from orz_ckpt.report.judged import Verdict

    chosen = chosen_format(output, as_json=as_json)
    budget_s = search_time(seconds)
    asked = [path_here(run) for run in runs or ()]
    for path in asked:
        if path.is_file():
            above, here = shell_path(path.parent), shell_path(path)
            remedy = f"orz ckpt locate {above}, or look into it: orz ckpt verify {here}"
            raise UsageError(f"{path} is a file on this machine; locate looks for the folder of a run", remedy=remedy)
    with connected(ray=ray, hosts=hosts) as fleet:
        found = ask(fleet, [str(path) for path in asked], budget_s=budget_s)
    severity = Severity(fail_on.value)
    write_judged(
        Verdict(command="locate", path=found.subject, findings=found.findings, seconds=found.seconds),
        chosen,
        severity,
        document=found.to_json,
        text=lambda severity: wide_console().print(locate_text(found, severity)),
    )
    raise typer.Exit(found.status(severity).exit_code)
