"""`orz ckpt manifest`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from orz_ckpt.cli.options import InertOption, TagOption, allowed
from orz_ckpt.urls import path_here


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
    as_json: Annotated[bool, typer.Option("--json", help="Write what was done as JSON.")] = False,
) -> None:
    """Write a manifest for a folder that has none, so that `verify` can tell later whether a byte changed.

    Each file is read once: blake3 digests of the file, of its tensors, and of each 64 MiB. The folder has to pass
    `verify --level quick` first, and the archives of torch have to have the checksums that were written with them: a
    manifest of a broken checkpoint would vouch for it.
    """
    from rich.console import Console

    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.describing import describe_folder
    from orz_ckpt.report.text import findings_text
    from orz_ckpt.report.words import count, plain, size
    from orz_cli.findings import Status

    with shown_progress("hashing") as progress:
        done = describe_folder(path, sha256=sha256, tag=tag, inert=allowed(inert), progress=progress)
    if as_json:
        sys.stdout.write(json.dumps(done.to_json(), indent=2) + "\n")
    elif done.manifest is not None:
        files = count(len(done.manifest.files), "file")
        sys.stdout.write(f"{plain(str(done.file))}: {files}, {size(done.manifest.total_bytes)}\n")
    else:
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"nothing was written for {plain(str(path))}", end="", markup=False)
        console.print(findings_text(done.findings, str(path)))
    raise typer.Exit((Status.OK if done.manifest is not None else done.status()).exit_code)
