"""`orz ckpt manifest`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orz_ckpt.cli.options import Format, FormatOption, InertOption, JsonOption, TagOption, allowed, chosen_format
from orz_ckpt.cli.output import write_judged
from orz_ckpt.urls import path_here
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from orz_ckpt.describing import Described


def manifest(
    path: Annotated[
        Path, typer.Argument(parser=path_here, metavar="PATH", help="A folder with weights.", show_default=False)
    ],
    tag: TagOption = "",
    inert: InertOption = None,
    *,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Add SHA-256 digests, as hubs state them, in the same pass.")
    ] = False,
    output: FormatOption = Format.TEXT,
    as_json: JsonOption = False,
) -> None:
    """Write a manifest for a folder that has none, so that `verify` can tell later whether a byte changed.

    Each file is read once: blake3 digests of the file, of its tensors, and of each 64 MiB. The folder has to pass
    `verify --level quick` first, and the archives of torch have to have the checksums that were written with them: a
    manifest of a broken checkpoint would vouch for it.
    """
    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.describing import describe_folder
    from orz_ckpt.report.judged import Verdict

    chosen = chosen_format(output, as_json=as_json)
    with shown_progress("hashing") as progress:
        done = describe_folder(path, sha256=sha256, tag=tag, inert=allowed(inert), progress=progress)
    write_judged(
        Verdict(command="manifest", kind="folder", path=str(path), findings=done.findings),
        chosen,
        Severity.ERROR,
        document=lambda _: done.to_json(),
        text=lambda _: _print(done),
    )
    raise typer.Exit((Status.OK if done.manifest is not None else done.status()).exit_code)


def _print(done: Described) -> None:
    """Print what was written, or why nothing was."""
    from orz_ckpt.report.text import findings_text
    from orz_ckpt.report.words import count, plain, size
    from orz_cli.output import OutputConsole

    if done.manifest is not None:
        files = count(len(done.manifest.files), "file")
        sys.stdout.write(f"{plain(str(done.file))}: {files}, {size(done.manifest.total_bytes)}\n")
        return
    console = OutputConsole(highlight=False, soft_wrap=True)
    console.print(f"nothing was written for {plain(str(done.path))}", end="", markup=False)
    console.print(findings_text(done.findings, str(done.path)))
