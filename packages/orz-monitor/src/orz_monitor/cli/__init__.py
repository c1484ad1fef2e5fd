"""`orz monitor`: is this run healthy, and what does it look like. One module a command.

`orz --help` loads these modules and must be back at once: a command imports what it works with when it runs.
"""

from __future__ import annotations

import typer

from orz_cli.blas import one_thread
from orz_monitor.cli.bundle import bundle
from orz_monitor.cli.check import check
from orz_monitor.cli.compare import compare
from orz_monitor.cli.explain import explain
from orz_monitor.cli.export import export
from orz_monitor.cli.report import report
from orz_monitor.cli.serve import serve
from orz_monitor.cli.tail import tail
from orz_monitor.cli.watch import watch

app = typer.Typer(
    name="monitor",
    help="Judge training runs by their logs.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _monitor() -> None:
    """Read training logs: is the run healthy, and what does it look like."""
    one_thread()


# In the order in which `orz monitor --help` lists them.
app.command()(check)
app.command()(report)
app.command()(tail)
app.command()(serve)
app.command()(compare)
app.command()(export)
app.command()(watch)
app.command()(bundle)
app.command()(explain)
