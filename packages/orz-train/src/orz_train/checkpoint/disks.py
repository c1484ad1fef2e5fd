"""A look at every node's disk before each save: the same folder still, and room enough?"""

from __future__ import annotations

from pathlib import Path

from orz_ckpt.node.saving import Place
from orz_ckpt.report.words import size
from orz_train.config.checkpoint import Checkpoint
from orz_train.errors import CheckpointError
from orz_train.ports import MetricSink, Nodes

PLACE = "orz_ckpt.node.saving:place"
SAVES_AHEAD = 2
"""Saves that should fit; fewer is a warning."""
TIMEOUT_S = 120.0


class Disks:
    """The folder of checkpoints on the disk of each node.

    Args:
        folder: absolute.
        nodes: those that write.
        settings: of checkpoints.
        sink: is told how much is free.
    """

    def __init__(self, folder: Path, nodes: Nodes, settings: Checkpoint, sink: MetricSink) -> None:
        self.folder = folder
        self.nodes = nodes
        self.settings = settings
        self.sink = sink
        self._known: dict[str, Place] = {}

    def look(self, step: int, *, needed_bytes: int) -> None:
        """Record what is free on each node; find what would make the save of `step` fail.

        Args:
            step: about to be saved.
            needed_bytes: of one checkpoint; 0 where that isn't known.

        Raises:
            CheckpointError: the folder is gone, hidden or another one, or too small; with `checkpoint.preflight: error`
                alone.
        """
        make = not self._known
        asked = {name: {"folder": self.folder, "make": make} for name in self.nodes.names}
        places: dict[str, Place | None] = self.nodes.run(PLACE, asked, timeout_s=TIMEOUT_S)
        free = {name: found.free_bytes for name, found in places.items() if found is not None}
        known = {f"storage/free_bytes/{name}": count for name, count in free.items() if count is not None}
        self.sink.event("storage", step=step, **known)
        problems = [*self._changed(places), *self._full(free, needed_bytes, 1)]
        seen = {name: found for name, found in places.items() if found is not None and not found.problem}
        self._known = seen | self._known
        if problems and self.settings.preflight == "error":
            raise CheckpointError(
                f"step {step} was not saved: {'; '.join(problems)}; older checkpoints are as they were",
                remedy="mount that disk again or free some space, then resume; checkpoint.preflight=warn tries anyway",
            )
        if self.settings.preflight == "off":
            return
        for problem in problems or self._full(free, needed_bytes, SAVES_AHEAD):
            self.sink.event("warning", step=step, message=f"checkpoints: {problem}")

    def _changed(self, places: dict[str, Place | None]) -> list[str]:
        """Name the nodes whose folder isn't the one that it was, or doesn't show."""
        problems = []
        for name, found in places.items():
            before = self._known.get(name)
            if found is None:
                problems.append(f"{self.folder} is gone on {name}")
            elif found.problem:
                problems.append(f"{self.folder} can't be looked at on {name}: {found.problem}")
            elif before is not None and before.identity != found.identity:
                problems.append(
                    f"{self.folder} on {name} is another folder than at the start (device:inode {before.identity},"
                    f" now {found.identity})"
                )
        return problems

    def _full(self, free: dict[str, int | None], needed_bytes: int, saves: int) -> list[str]:
        """Name the nodes where so many checkpoints don't fit."""
        return [
            f"{size(count)} are free in {self.folder} on {name}, the next"
            f" {'save needs' if saves == 1 else f'{saves} saves need'} {size(saves * needed_bytes)}"
            for name, count in free.items()
            if count is not None and count < saves * needed_bytes
        ]
