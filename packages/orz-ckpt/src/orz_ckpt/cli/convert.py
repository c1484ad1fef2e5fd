"""`orz ckpt convert`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orz_ckpt.cli.merge import STORED, DType, write_merged
from orz_ckpt.cli.options import (
    FailOn,
    FailOnOption,
    Format,
    FormatOption,
    InertOption,
    JsonOption,
    TagOption,
    allowed,
    chosen_format,
    spelled,
)
from orz_ckpt.urls import path_here
from orz_cli.findings import Severity


class To(StrEnum):
    """What to write."""

    HF = "hf"
    ORZ_CRITIC = "orz-critic"


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            parser=path_here,
            metavar="SRC",
            help="A critic or a policy: a Hugging Face, ORZ, DeepSpeed, FSDP (verl) or DCP folder.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Argument(parser=path_here, metavar="OUT", help="The folder to make.", show_default=False)
    ],
    to: Annotated[
        To,
        typer.Option(
            help="hf: a critic becomes a token classifier with one label. orz-critic: ORZ's CriticModel.",
            show_default=False,
        ),
    ],
    tag: TagOption = "",
    dtype: Annotated[
        DType, typer.Option(help="Type of floating-point tensors; integers and 8-bit types stay as they are.")
    ] = DType.KEEP,
    config: Annotated[
        Path | None,
        typer.Option(
            parser=path_here,
            metavar="DIR",
            help="Folder with config.json and tokenizer; those of the checkpoint by default.",
            show_default=False,
        ),
    ] = None,
    inert: InertOption = None,
    *,
    output: FormatOption = Format.TEXT,
    as_json: JsonOption = False,
    fail_on: FailOnOption = FailOn.ERROR,
) -> None:
    """Write a critic in the layout that another trainer or loader knows: names, one shape and config.json change.

    The value head `value_head` (ORZ) or `v_head` (trl) becomes `score`, or the other way round; the released 32B
    critic's odd shape is put right. A policy or a reward model is written with `--to hf` as `orz ckpt merge` writes it.
    """
    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.convert import Layout, convert_checkpoint
    from orz_ckpt.merge.run import Options
    from orz_ckpt.sources import open_source

    chosen = chosen_format(output, as_json=as_json)
    opened = open_source(source, tag=tag, inert=allowed(inert), dtype=STORED[dtype])
    command = ("convert", *spelled({"--tag": tag, "--inert": inert}))
    options = Options(dtype=STORED[dtype], config=config, command=command)
    with shown_progress("converting") as progress:
        merged = convert_checkpoint(opened, out, Layout(to.value), options, progress=progress)
    severity = Severity(fail_on.value)
    write_merged(merged, chosen, severity, command="convert")
    raise typer.Exit(merged.status(severity).exit_code)
