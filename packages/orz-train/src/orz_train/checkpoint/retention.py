"""What goes from the disks of a run: what a killed run left in flight, and checkpoints that are no longer kept."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from orz_ckpt.inventory import CHECKPOINTS_DIR, list_checkpoints
from orz_ckpt.node.saving import Removed
from orz_ckpt.report.words import count
from orz_ckpt.steps import our_step, thrown_name
from orz_train.checkpoint.commit import SAVING
from orz_train.config.checkpoint import Checkpoint
from orz_train.ports import MetricSink, Nodes

_AGAIN = "the next removal and the next start of this run try again"


def sweep(run_dir: Path, settings: Checkpoint, nodes: Nodes, sink: MetricSink) -> None:
    """Remove what a killed run left in flight on any disk, or hadn't come to delete, and tell of it."""
    folder = run_dir / CHECKPOINTS_DIR
    holding = _holding(settings, nodes)
    swept: Mapping[str, Removed] = nodes.run(f"{SAVING}:sweep", {name: {"checkpoints": folder} for name in holding})
    for node, removed in swept.items():
        for name in removed.gone:
            sink.event("unfinished_save_removed", path=folder / name, node=node)
    _tell_left(folder, swept, sink)
    _delete_discarded(folder, nodes, holding, sink)


def remove_old(
    run_dir: Path, settings: Checkpoint, nodes: Nodes, sink: MetricSink, *, waiting: Container[int] = ()
) -> None:
    """Remove the checkpoints that are no longer kept, and tell of it; those of the steps in `waiting` stay.

    Each is none any more, for all that read, at once; its files go then. A process that is killed meanwhile, or a disk
    that refuses, leaves them under a name that the next call, or the next start, finds.
    """
    if settings.keep is None:
        return
    committed = [checkpoint for checkpoint in list_checkpoints(run_dir) if checkpoint.committed]
    old = [checkpoint.path for checkpoint in committed[: -settings.keep] if checkpoint.step not in waiting]
    for path in old:
        # the driver's own first: its manifest is the commit, and half a checkpoint must not look committed
        _discard(path, nodes, nodes.names[:1], sink)
    if old:
        _delete_discarded(run_dir / CHECKPOINTS_DIR, nodes, _holding(settings, nodes), sink)


def _delete_discarded(folder: Path, nodes: Nodes, holding: Sequence[str], sink: MetricSink) -> None:
    """Delete the files of what was discarded on the driver's disk, there last: they tell what others still hold."""
    driver, others = holding[0], holding[1:]
    everywhere = True
    if others:
        names: Sequence[str] = nodes.run(f"{SAVING}:discarded", {driver: {"checkpoints": folder}})[driver]
        for name in names:
            everywhere = _discard(folder / name, nodes, others, sink) and everywhere
    deleted: dict[str, Removed] = {}
    for name in [*others, driver] if everywhere else others:
        deleted |= nodes.run(f"{SAVING}:empty_trash", {name: {"checkpoints": folder}})
    left = {thrown_name(name) for removed in deleted.values() for name in removed.left}
    gone = {thrown_name(name) for removed in deleted.values() for name in removed.gone}
    for step in sorted(name for name in gone - left if name is not None):
        sink.event("checkpoint_removed", step=our_step(step), path=folder / step)
    _tell_left(folder, deleted, sink)


def _discard(path: Path, nodes: Nodes, names: Sequence[str], sink: MetricSink) -> bool:
    """Let a step's folder be none any more on some nodes; say whether it is none on any of them, and tell if not."""
    reasons: Mapping[str, str] = nodes.run(f"{SAVING}:discard", {name: {"final": path} for name in names})
    for node, why in reasons.items():
        if why:
            message = f"{path} is no longer kept, and can't be removed on {node}: {why}"
            sink.event("warning", message=message, remedy=f"see who may write to {path.parent} there; {_AGAIN}")
    return not any(reasons.values())


def _tell_left(folder: Path, removed: Mapping[str, Removed], sink: MetricSink) -> None:
    """Tell where files are left that couldn't be deleted."""
    for node, one in removed.items():
        if one.left:
            name, why = next(iter(one.left.items()))
            if not name:
                message = f"{folder} can't be looked at on {node}, so nothing is removed there: {why}"
                sink.event("warning", message=message, remedy=f"see who may read it there; {_AGAIN}")
                continue
            more = f", and {count(len(one.left) - 1, 'folder')} more" if len(one.left) > 1 else ""
            message = f"{folder / name}{more} can't be deleted on {node}: {why}"
            remedy = f"see who may delete it there; no reader takes it for a checkpoint, and {_AGAIN}"
            sink.event("warning", message=message, remedy=remedy)


def _holding(settings: Checkpoint, nodes: Nodes) -> Sequence[str]:
    """Return one node for each disk, the driver's first."""
    return nodes.names[:1] if settings.storage == "shared" else nodes.names
