"""`orz ckpt`: look after model weights. One module a command; what several need is in `options`.

`orz --help` loads these modules and must be back at once: a command imports what it works with when it runs.
"""

from __future__ import annotations

import typer

from orz_ckpt.cli.collect import collect
from orz_ckpt.cli.command import CkptCommand
from orz_ckpt.cli.convert import convert
from orz_ckpt.cli.copy import copy
from orz_ckpt.cli.diff import diff
from orz_ckpt.cli.inspect import inspect
from orz_ckpt.cli.locate import locate
from orz_ckpt.cli.manifest import manifest
from orz_ckpt.cli.merge import merge
from orz_ckpt.cli.nodes import NodesCommand
from orz_ckpt.cli.preflight import preflight
from orz_ckpt.cli.prune import prune
from orz_ckpt.cli.verify import verify
from orz_cli.blas import one_thread

app = typer.Typer(
    name="ckpt",
    help="Inspect, verify, merge and compare checkpoints and model folders.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _ckpt() -> None:
    """Look after model weights: find them, prove that they are whole, merge, compare and copy them."""
    one_thread()


# In the order in which `orz ckpt --help` lists them.
app.command(cls=CkptCommand)(inspect)
app.command(cls=NodesCommand)(verify)
app.command(cls=CkptCommand)(manifest)
app.command(cls=CkptCommand)(merge)
app.command(cls=CkptCommand)(convert)
app.command(cls=CkptCommand)(diff)
app.command(cls=CkptCommand)(copy)
app.command(cls=CkptCommand)(prune)
app.command(cls=NodesCommand)(preflight)
app.command(cls=NodesCommand)(locate)
app.command(cls=NodesCommand)(collect)
