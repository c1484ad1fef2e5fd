"""`orz ckpt merge`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

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
from orz_ckpt.cli.output import write_judged
from orz_ckpt.urls import path_here
from orz_cli.errors import UsageError
from orz_cli.findings import Severity
from orz_cli.numbers import finite

if TYPE_CHECKING:
    from orz_ckpt.merge.run import Merged


class DType(StrEnum):
    """In which type floating-point tensors are written."""

    KEEP = "keep"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


STORED: Final = {DType.KEEP: "keep", DType.FLOAT32: "F32", DType.BFLOAT16: "BF16", DType.FLOAT16: "F16"}

_MEBI: Final = 1024 * 1024
_LEAST_SHARD_BYTES: Final = 1000
"""Fewer would give each tensor a file of its own: whoever writes 5 means 5GB."""
_LARGEST_ALPHA: Final = 1_000_000
"""Far above all that are in use; what a float32 cannot hold would make every weight infinite."""


def merge(
    source: Annotated[
        Path,
        typer.Argument(
            parser=path_here,
            metavar="SRC",
            help="A DeepSpeed, FSDP, torch.distributed.checkpoint, Hugging Face or step folder, or a file of weights.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Argument(parser=path_here, metavar="OUT", help="The folder to make.", show_default=False)
    ],
    tag: TagOption = "",
    dtype: Annotated[
        DType, typer.Option(help="Type of floating-point tensors; integers and 8-bit types stay as they are.")
    ] = DType.KEEP,
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", metavar="SIZE", help="Largest file, as 5GB or 2GiB.")
    ] = "5GB",
    config: Annotated[
        Path | None,
        typer.Option(
            parser=path_here,
            metavar="DIR",
            help="Folder with config.json and tokenizer; those of the checkpoint by default.",
            show_default=False,
        ),
    ] = None,
    lora: Annotated[
        Path | None,
        typer.Option(
            parser=path_here, metavar="DIR", help="A PEFT adapter to add to the weights of SRC.", show_default=False
        ),
    ] = None,
    lora_alpha: Annotated[
        float | None,
        typer.Option(
            "--lora-alpha",
            min=0,
            max=_LARGEST_ALPHA,
            callback=finite,
            metavar="N",
            help="Alpha of the adapter, or of the LoRA factors inside SRC, where it is not stated with them; another"
            " than is stated is refused, and what alpha_pattern states of single modules counts.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Threads; 6 by default.", show_default=False),
    ] = None,
    max_memory: Annotated[
        str, typer.Option("--max-memory", metavar="SIZE", help="Bytes of all buffers together.")
    ] = "64MiB",
    inert: InertOption = None,
    *,
    output: FormatOption = Format.TEXT,
    as_json: JsonOption = False,
    fail_on: FailOnOption = FailOn.ERROR,
) -> None:
    """Write the weights of a checkpoint of any format as a Hugging Face folder with index and manifest.

    Every element must be in exactly one file, of one step; otherwise nothing is written (exit 1). No pickle is
    loaded, and memory does not grow with the model. OUT appears whole and at once. After a kill or a full disk the
    same command goes on where it stopped; after it is done, it says so.
    """
    from orz_ckpt.disk.early import ask_for_ends

    ask_for_ends(source)  # while the disk is at it, the modules load
    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.cli.sizes import parse_bytes
    from orz_ckpt.lora import prepared
    from orz_ckpt.merge.copy import LEAST_BYTES
    from orz_ckpt.merge.run import DEFAULT_JOBS, Options
    from orz_ckpt.merge.run import merge as run
    from orz_ckpt.sources import open_source

    if not hasattr(os, "preadv"):
        raise UsageError("merge needs Linux or macOS", remedy="run it there")
    chosen = chosen_format(output, as_json=as_json)
    shard_bytes = parse_bytes(max_shard_size, "--max-shard-size")
    if shard_bytes < _LEAST_SHARD_BYTES:
        message = f"--max-shard-size {max_shard_size}: expected {_LEAST_SHARD_BYTES:,} bytes at least"
        raise UsageError(message, remedy="give a size such as 5GB")
    memory_bytes = parse_bytes(max_memory, "--max-memory")
    if memory_bytes < LEAST_BYTES:
        message = f"--max-memory {max_memory}: a merge needs {LEAST_BYTES:,} bytes at least"
        raise UsageError(message, remedy=f"--max-memory {-(-LEAST_BYTES // _MEBI)}MiB")
    options = Options(
        dtype=STORED[dtype],
        max_shard_bytes=shard_bytes,
        config=config,
        jobs=jobs or DEFAULT_JOBS,
        max_memory_bytes=memory_bytes,
        command=("merge", *spelled({"--tag": tag, "--lora": lora, "--lora-alpha": lora_alpha, "--inert": inert})),
    )
    names = allowed(inert)
    opened = open_source(source, tag=tag, inert=names, dtype=STORED[dtype])
    adapter = open_source(lora, inert=names) if lora is not None else None
    opened = prepared(opened, adapter, alpha=lora_alpha)
    with shown_progress("merging") as progress:
        merged = run(opened, out, options, progress=progress)
    severity = Severity(fail_on.value)
    write_merged(merged, chosen, severity)
    raise typer.Exit(merged.status(severity).exit_code)


def write_merged(merged: Merged, output: Format, fail_on: Severity, *, command: str = "merge") -> None:
    """Write what a merge or a conversion came to, to stdout."""
    from orz_ckpt.merge.text import merge_pieces
    from orz_ckpt.report.judged import Verdict
    from orz_cli.styled import print_styled

    path = str(merged.source.path)
    write_judged(
        Verdict(command=command, kind="checkpoint", path=path, findings=merged.findings, seconds=merged.seconds),
        output,
        fail_on,
        document=merged.to_json,
        text=lambda severity: print_styled(merge_pieces(merged, severity)),
    )
