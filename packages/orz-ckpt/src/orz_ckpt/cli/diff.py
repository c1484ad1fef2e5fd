"""`orz ckpt diff`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orz_ckpt.cli.options import Format, InertOption, PlainFormat, PlainFormatOption, allowed, chosen_format
from orz_ckpt.quoting import shell_path
from orz_ckpt.urls import path_here
from orz_cli.errors import UsageError
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from orz_ckpt.diff.picture import Picture

_SVG, _PNG = ".svg", ".png"
_WIDTH: Final = 160
"""Characters of a line where no terminal says."""


def diff(
    a: Annotated[
        Path, typer.Argument(parser=path_here, metavar="A", help="A checkpoint of any format.", show_default=False)
    ],
    b: Annotated[
        Path,
        typer.Argument(parser=path_here, metavar="B", help="Another one; norms are relative to A.", show_default=False),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            parser=path_here,
            metavar="FILE",
            help="Draw the change of each part of each layer, as .svg; as .png with `orz-ckpt[png]`, which has Pillow.",
            show_default=False,
        ),
    ] = None,
    inert: InertOption = None,
    *,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 if they differ.")] = False,
    output: PlainFormatOption = PlainFormat.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, with every tensor.")] = False,
) -> None:
    """Compare two checkpoints tensor by tensor: equal bits, changed share, relative norm, largest change.

    Formats may differ. Of two floating-point types the wider is cast to the narrower first, so a checkpoint and its
    16-bit copy are equal. The relative norm is that of B - A over that of A; of a layer or a kind of tensor, over all
    its tensors, unchanged ones with them. A change from or to NaN or infinity makes it nan, and is counted. Exit 0
    whether or not they differ, unless --exit-code is given; 3 if they cannot be compared.
    """
    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.diff.run import diff as compare
    from orz_ckpt.diff.text import diff_tables
    from orz_ckpt.errors import FormatError, NotComparableError
    from orz_ckpt.sources import open_source
    from orz_cli.output import OutputConsole

    chosen = chosen_format(Format(output.value), as_json=as_json)
    draw = _drawing(plot) if plot is not None else None
    try:
        sources = [open_source(path, inert=allowed(inert)) for path in (a, b)]
    except FormatError as error:
        raise NotComparableError(error.message, remedy=error.remedy) from error
    with shown_progress("comparing") as progress:
        found = compare(*sources, progress=progress)
    if plot is not None and draw is not None:
        from orz_ckpt.diff.plot import heat_map
        from orz_ckpt.disk_errors import writing

        picture = draw(heat_map(found))
        with writing(plot):
            plot.write_bytes(picture)
    if chosen is Format.JSON:
        sys.stdout.write(json.dumps(found.to_json(), indent=2) + "\n")
    else:
        console = OutputConsole(highlight=False)
        if not console.is_terminal:
            console = OutputConsole(highlight=False, width=_WIDTH)
        console.print(diff_tables(found))
    raise typer.Exit(ExitCode.FAILED if exit_code and not found.same else ExitCode.OK)


def _drawing(plot: Path) -> Callable[[Picture], bytes]:
    """Return what draws the kind of picture that a file's name says.

    Raises:
        UsageError: nothing here draws that kind, or there is no folder for it.
    """
    if plot.suffix not in {_SVG, _PNG}:
        remedy = f"give {plot.parent / (plot.stem or 'change')}{_SVG}"
        raise UsageError(f"--plot {plot}: only SVG and PNG are drawn", remedy=remedy)
    if not plot.parent.is_dir():
        make = "" if plot.parent.exists() else f"mkdir -p {shell_path(plot.parent)}, or "
        raise UsageError(f"--plot {plot}: there is no folder {plot.parent}", remedy=f"{make}name another place")
    if plot.is_dir():
        raise UsageError(f"--plot {plot}: that is a folder", remedy="name another place")
    if plot.suffix == _SVG:
        from orz_ckpt.diff.picture import to_svg

        return lambda picture: to_svg(picture).encode()
    try:
        from orz_ckpt.diff.png import to_png
    except ImportError as error:
        raise UsageError(
            f"--plot {plot.name}: Pillow, which draws PNG, cannot be imported here: {error}",
            remedy=f"give {plot.with_suffix(_SVG)}, which needs no library; or python -m pip install 'orz-ckpt[png]'",
        ) from error
    return to_png
