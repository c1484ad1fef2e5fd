"""`orz ckpt verify`."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orz_ckpt.cli.nodes import SEARCH_S, HostsOption, RayOption, search_time
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
)
from orz_ckpt.cli.output import write_judged
from orz_ckpt.findings import Level
from orz_ckpt.urls import path_here
from orz_cli.errors import UsageError
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from orz_ckpt.findings import Report


def verify(
    paths: Annotated[
        list[Path],
        typer.Argument(
            parser=path_here,
            metavar="PATH",
            help="A run, a step folder, a folder of any format that `inspect` knows, a .safetensors or .pt file.",
            show_default=False,
        ),
    ],
    level: Annotated[
        Level,
        typer.Option(
            help="quick: names, sizes, headers, index, shapes. sample: some bytes, chosen by chance, too. full: every"
            " byte. deep: statistics, too, and copies of the same weights and the steps of a run compared."
        ),
    ] = Level.FULL,
    against: Annotated[
        Path | None,
        typer.Option(
            parser=path_here,
            metavar="BASE",
            help="The model that the training began with: fail if nothing of it changed.",
            show_default=False,
        ),
    ] = None,
    tag: TagOption = "",
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="How much `--level sample` reads, as 1% or 0.01; 1% by default.", show_default=False
        ),
    ] = None,
    output: FormatOption = Format.TEXT,
    *,
    as_json: JsonOption = False,
    fail_on: FailOnOption = FailOn.ERROR,
    require_manifest: Annotated[
        bool, typer.Option("--require-manifest", help="Fail where a folder has no manifest.")
    ] = False,
    inert: InertOption = None,
    ray: RayOption = None,
    hosts: HostsOption = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="How long each node may search, with --ray or --hosts; 20 by default.", show_default=False),
    ] = None,
) -> None:
    """Say whether checkpoints are committed, whole, and byte for byte what was written.

    The manifest is compared with the files: names, sizes, blake3 digests. safetensors headers, the index of
    the shards and the shapes that config.json promises are checked, and all numbers searched for NaN, Inf and
    zeros. Files of torch are read by a reader that runs nothing: one whose pickle would is refused (exit 4), and
    the checksums of its records are compared. Of DeepSpeed, FSDP, torch.distributed.checkpoint and PEFT, missing
    ranks, mixed steps and broken shards are named. A run is as good as its newest checkpoint, and a
    folder of that name without weights is no good one. Of a folder the model in it and those below are judged.

    With --ray or --hosts each node verifies what lies on its own disk, and what all have together gives the verdict:
    a node that does not answer leaves it open (exit 3).
    """
    asked = _Asked(level=level, sample=_share(sample or "1%"), require_manifest=require_manifest, inert=allowed(inert))
    if sample is not None and level is not Level.SAMPLE:
        raise UsageError(f"--sample {sample} means nothing to --level {level}", remedy="give --level sample, too")
    if seconds is not None and ray is None and hosts is None:
        raise UsageError(f"--seconds {seconds:g} means nothing on one machine", remedy="give --ray or --hosts, too")
    budget_s = search_time(SEARCH_S if seconds is None else seconds)
    chosen = chosen_format(output, as_json=as_json)
    severity = Severity(fail_on.value)
    if ray is None and hosts is None:
        status = _here(paths, asked, against, tag, chosen, severity)
    elif against is not None or tag:
        option = "--tag" if tag else "--against"
        raise UsageError(f"{option} needs all weights on one disk", remedy="orz ckpt collect first")
    else:
        status = _on_nodes(paths, asked, ray, hosts, chosen, severity, budget_s)
    raise typer.Exit(status.exit_code)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What one machine and several understand alike."""

    level: Level
    sample: float
    require_manifest: bool
    inert: frozenset[str]


def _here(
    paths: list[Path], asked: _Asked, against: Path | None, tag: str, output: Format, fail_on: Severity
) -> Status:
    """Verify what is on this machine, and write what was found."""
    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.verify import verify_all

    with shown_progress() as progress:
        report = verify_all(
            paths,
            level=asked.level,
            against=against,
            tag=tag,
            sample=asked.sample,
            require_manifest=asked.require_manifest,
            inert=asked.inert,
            progress=progress,
        )
    write_judged(report, output, fail_on, document=report.to_json, text=lambda severity: _print(report, severity))
    return report.status(fail_on)


def _print(report: Report, fail_on: Severity) -> None:
    """Write a report for people; for programs, what this takes is not even loaded."""
    from orz_ckpt.report.styled import verdict_pieces
    from orz_cli.styled import print_styled

    print_styled(verdict_pieces(report, fail_on))


def _on_nodes(
    paths: list[Path],
    asked: _Asked,
    ray: str | None,
    hosts: str | None,
    output: Format,
    fail_on: Severity,
    budget_s: float,
) -> Status:
    """Let every node verify what it has, and write what that adds up to."""
    from orz_ckpt.cli.progress import shown_progress
    from orz_ckpt.cluster.connect import connected
    from orz_ckpt.cluster.terminal import wide_console
    from orz_ckpt.cluster.verify import verify_nodes
    from orz_ckpt.cluster.verify_outcome import together
    from orz_ckpt.cluster.verify_text import verify_text

    with connected(ray=ray, hosts=hosts) as fleet, shown_progress("verifying") as progress:
        reports = [
            verify_nodes(
                fleet,
                str(path),
                level=asked.level,
                sample=asked.sample,
                require_manifest=asked.require_manifest,
                inert=asked.inert,
                budget_s=budget_s,
                progress=progress,
            )
            for path in paths
        ]
    report = together(reports)
    write_judged(
        report,
        output,
        fail_on,
        document=report.to_json,
        text=lambda severity: wide_console().print(verify_text(report, severity)),
    )
    return report.status(fail_on)


def _share(text: str) -> float:
    """Return the share that `1%` or `0.01` states.

    Raises:
        UsageError: it is no number, or not more than 0 and at most 1.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"--sample {text}: expected more than 0 and at most 100%", remedy="give a share as 1% or 0.01")
    return share
