"""`orz ckpt copy`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

from typing import Annotated

import typer

from orz_ckpt.cli.options import FailOn, FailOnOption, Format, FormatOption, JsonOption, chosen_format
from orz_ckpt.cli.output import write_judged
from orz_cli.errors import UsageError
from orz_cli.findings import Severity


def copy(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="A run, a step folder or another folder: a path or a URL.", show_default=False
        ),
    ],
    dest: Annotated[
        str,
        typer.Argument(metavar="DEST", help="What becomes the copy: a path, s3://..., gs://...", show_default=False),
    ],
    output: FormatOption = Format.TEXT,
    *,
    as_json: JsonOption = False,
    fail_on: FailOnOption = FailOn.ERROR,
) -> None:
    """Copy checkpoints, every byte compared with the manifest on its way.

    Of a run all committed steps are copied; those that are at DEST already stay. On a disk each appears at once when
    it is whole; on an object store its manifest comes last. Nothing at DEST is replaced. After a kill or a full disk
    the same command goes on. URLs go through fsspec: s3:// needs s3fs, gs:// gcsfs, http:// aiohttp. From http:// one
    checkpoint with a manifest.json can be read, and no run: a web server cannot list files.
    """
    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.cluster.terminal import wide_console
    from orz_ckpt.copy.run import copy as run
    from orz_ckpt.copy.text import copy_text
    from orz_ckpt.report.judged import Verdict

    chosen = chosen_format(output, as_json=as_json)
    for name, text in (("SRC", source), ("DEST", dest)):
        if not text or "\0" in text:
            raise UsageError(f"{name} is empty", remedy="give a path or a URL")
    with shown_progress("copying") as progress:
        done = run(source, dest, progress=progress)
    severity = Severity(fail_on.value)
    write_judged(
        Verdict(command="copy", path=done.source, findings=done.findings, seconds=done.seconds),
        chosen,
        severity,
        document=done.to_json,
        text=lambda severity: wide_console().print(copy_text(done, severity)),
    )
    raise typer.Exit(done.status(severity).exit_code)
