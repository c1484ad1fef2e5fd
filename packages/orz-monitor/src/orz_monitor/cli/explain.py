"""`orz monitor explain`: what a metric means, what a rule looks for."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

from typing import Annotated

import typer

_WIDEST = 100
"""Columns of the widest text; longer lines are hard to read."""


def explain(
    names: Annotated[
        list[str],
        typer.Argument(metavar="METRIC|RULE...", help="Such as kl, policy/entropy, or kl_drift.", show_default=False),
    ],
) -> None:
    """Explain metrics and rules: meaning, unit, how values are reduced, and what looks at them."""
    import shutil
    import sys

    from orz_monitor.glossary import explained

    width = min(_WIDEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else _WIDEST
    typer.echo("\n\n".join(explained(name, width=width) for name in names))
