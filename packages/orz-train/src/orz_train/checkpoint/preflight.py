"""Before a run depends on a folder: is it on every node what the configuration says?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orz_ckpt.cluster.preflight import preflight
from orz_ckpt.cluster.storage_checks import Expect, Folder
from orz_ckpt.inventory import CHECKPOINTS_DIR, list_checkpoints
from orz_ckpt.report.words import size
from orz_cli.findings import Severity, Status
from orz_train.checkpoint.nodes import NodesFleet
from orz_train.config.checkpoint_size import expected_bytes, num_saves
from orz_train.config.schema import Config
from orz_train.errors import StorageCheckError
from orz_train.ports import MetricSink, Nodes

LEAST_KEPT = 2
"""Checkpoints that have to fit where all are kept: how many of those somebody moves away isn't known."""


def check_storage(config: Config, nodes: Nodes, run_dir: Path, sink: MetricSink, *, num_steps: int) -> None:
    """Try on every node that writes what a save does there, and compare what they see of each other.

    `checkpoint.preflight` says what a failure means; a mere warning is an event, whatever it says.

    Args:
        config: of the run.
        nodes: those that will write.
        run_dir: the run folder, absolute.
        sink: is told of what is found.
        num_steps: of the run.

    Raises:
        StorageCheckError: the folder isn't what the configuration says; names what each node sees.
    """
    mode = config.checkpoint.preflight
    if mode == "off":
        return
    found = preflight(
        NodesFleet(nodes),
        str(run_dir / CHECKPOINTS_DIR),
        nbytes=needed_bytes(config, run_dir, num_steps=num_steps),
        expect=Expect(config.checkpoint.storage),
        speed_bytes=0,
    )
    for finding in found.findings:
        if finding.severity is Severity.WARN:
            sink.event("warning", message=f"checkpoints: {finding.message}", code=finding.code, remedy=finding.remedy)
    if found.status() is Status.OK:
        return
    unfit = f"{found.path} isn't fit for checkpoints as checkpoint.storage={config.checkpoint.storage} says"
    wrong = [finding for finding in found.findings if finding.severity is Severity.ERROR]
    lines = [finding.message for finding in wrong] + (_seen(found.folders) if len(found.folders) > 1 else [])
    remedy = "; ".join(dict.fromkeys(finding.remedy for finding in wrong if finding.remedy))
    if mode == "error":
        raise StorageCheckError(
            f"{unfit}:\n" + "\n".join(f"  {line}" for line in lines),
            remedy=f"{remedy}; or go on regardless with checkpoint.preflight=warn",
        )
    sink.event("warning", message=f"{unfit}: {'; '.join(lines)}", remedy=remedy)


def needed_bytes(config: Config, run_dir: Path, *, num_steps: int) -> int:
    """Return what the run has yet to write at once, at most; 0 where the size of a model isn't known.

    That is one checkpoint times those that `checkpoint.keep` keeps, less those that are there already; where all are
    kept, times `LEAST_KEPT`.
    """
    keep = config.checkpoint.keep
    kept = min(num_saves(num_steps, config.checkpoint.every_steps), LEAST_KEPT if keep is None else keep + 1)
    there = 0 if keep is None else sum(one.committed for one in list_checkpoints(run_dir))
    return expected_bytes(config) * max(1, kept - there)


def _seen(folders: Sequence[Folder]) -> list[str]:
    """Describe the folder of each node in a line."""
    lines = []
    for folder in folders:
        facts = folder.facts
        others = [name for name, sight in folder.sights.items() if sight.seen]
        free = "unknown" if facts.free_bytes is None else size(facts.free_bytes)
        disk = f"{facts.fstype} from {facts.source} at {facts.mount_point}" if facts.fstype else "an unknown disk"
        sees = f"sees what {' and '.join(others)} wrote" if others else "sees only what it wrote itself"
        lines.append(f"{folder.node}: {disk}, {free} free; {sees}")
    return lines
