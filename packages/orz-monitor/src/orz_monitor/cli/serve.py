"""`orz monitor serve`: the report of a run that goes on, in a browser and for Prometheus."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orz_monitor.addresses import located
from orz_monitor.cli.options import ConfigOption, DialectOption, PresetOption, RuleOption, dialects_with, judge_of


def serve(
    path: Annotated[
        Path,
        typer.Argument(
            parser=located, metavar="PATH", help="A log, a run folder, or a folder of run folders.", show_default=False
        ),
    ],
    *,
    preset: PresetOption = "",
    config: ConfigOption = None,
    rule: RuleOption = None,
    dialect: DialectOption = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9464,
    host: Annotated[str, typer.Option(help="Address to bind to; others than loopback let the network read.")] = (
        "127.0.0.1"
    ),
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", metavar="NAME", help="A name under which browsers may ask.")
    ] = None,
) -> None:
    """Show the report of a run in a browser while it goes on, and its metrics to Prometheus under /metrics.

    Reads only. Waits for a run that is not there yet. The address goes to stdout; Ctrl-C ends it.
    """
    from orz_monitor.serve.live import LiveReport
    from orz_monitor.serve.server import ReportServer
    from orz_monitor.tail.source import Source

    source = Source(path, dialects_with(dialect))
    live = LiveReport(source, judge_of(path, preset=preset, config=config, users=rule or ()))
    with ReportServer(live, host=host, port=port, hosts=tuple(allow_host or ())) as server:
        live.start()
        typer.echo(server.url)
        try:
            server.serve_forever(poll_interval=0.2)
        finally:
            live.stop()
