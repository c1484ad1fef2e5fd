"""What goes from the disks of a run: what a killed run left in flight, and checkpoints that are no longer kept."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from orz_ckpt.inventory import CHECKPOINTS_DIR, list_checkpoints
from orz_train.checkpoint.commit import SAVING
from orz_train.config.checkpoint import Checkpoint
from orz_train.ports import MetricSink, Nodes


def sweep(run_dir: Path, settings: Checkpoint, nodes: Nodes, sink: MetricSink) -> None:
    """Remove what a killed run left in flight on any disk, and tell of it."""
    folder = run_dir / CHECKPOINTS_DIR
    swept = nodes.run(f"{SAVING}:sweep", {name: {"checkpoints": folder} for name in _holding(settings, nodes)})
    for node, names in swept.items():
        for name in names:
            sink.event("unfinished_save_removed", path=folder / name, node=node)


def remove_old(
    run_dir: Path, settings: Checkpoint, nodes: Nodes, sink: MetricSink, *, waiting: Container[int] = ()
) -> None:
    """Remove the checkpoints that are no longer kept, and tell of it; those of the steps in `waiting` stay."""
    if settings.keep is None:
        return
    committed = [checkpoint for checkpoint in list_checkpoints(run_dir) if checkpoint.committed]
    for checkpoint in committed[: -settings.keep]:
        if checkpoint.step in waiting:
            continue
        # the driver's own first: its manifest is the commit, and half a checkpoint must not look committed
        for name in _holding(settings, nodes):
            nodes.run(f"{SAVING}:forget", {name: {"final": checkpoint.path}})
        sink.event("checkpoint_removed", step=checkpoint.step, path=checkpoint.path)


def _holding(settings: Checkpoint, nodes: Nodes) -> Sequence[str]:
    """Return one node for each disk."""
    return nodes.names[:1] if settings.storage == "shared" else nodes.names
