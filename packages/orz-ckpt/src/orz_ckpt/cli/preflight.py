"""`orz ckpt preflight`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from orz_ckpt.cli.nodes import HostsOption, RayOption
from orz_ckpt.cli.options import FailOn, FailOnOption, Format, FormatOption, JsonOption, chosen_format
from orz_ckpt.cli.output import write_judged
from orz_ckpt.urls import path_here
from orz_cli.findings import Severity


class Expected(StrEnum):
    """What the folder is believed to be."""

    SHARED = "shared"
    PER_NODE = "per_node"


def preflight(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The folder that checkpoints are to go to.")],
    nbytes: Annotated[
        str,
        typer.Option("--bytes", metavar="N", help="What one save needs, as 65e9, 65GB or 61GiB.", show_default=False),
    ] = "0",
    ray: RayOption = None,
    hosts: HostsOption = None,
    *,
    expect: Annotated[Expected, typer.Option(help="One disk for all nodes, or one each.")] = Expected.SHARED,
    output: FormatOption = Format.TEXT,
    as_json: JsonOption = False,
    fail_on: FailOnOption = FailOn.ERROR,
) -> None:
    """Say whether a folder is, on every node, what a run needs: before it starts, not when its weights are gone.

    Each node writes, flushes, reads back, renames and removes a file there, and opens the files of all others by
    name; N bytes are allocated and given back. Nothing stays. An unreachable node is never a pass. With --hosts this
    machine is one of the nodes.
    """
    from orz_ckpt.cli.sizes import parse_bytes
    from orz_ckpt.cluster.connect import connected
    from orz_ckpt.cluster.preflight import preflight as ask
    from orz_ckpt.cluster.preflight_text import preflight_text
    from orz_ckpt.cluster.storage_checks import Expect
    from orz_ckpt.cluster.terminal import wide_console
    from orz_ckpt.report.judged import Verdict

    chosen = chosen_format(output, as_json=as_json)
    folder = str(path_here(path))
    needed = parse_bytes(nbytes, "--bytes")
    severity = Severity(fail_on.value)
    with connected(ray=ray, hosts=hosts) as fleet:
        result = ask(fleet, folder, nbytes=needed, expect=Expect(expect.value))
    write_judged(
        Verdict(command="preflight", kind="folder", path=result.path, findings=result.findings, seconds=result.seconds),
        chosen,
        severity,
        document=result.to_json,
        text=lambda severity: wide_console().print(preflight_text(result, severity)),
    )
    raise typer.Exit(result.status(severity).exit_code)
