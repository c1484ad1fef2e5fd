"""Policy, critic and reference, each over all of its ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from orz_ckpt.manifest import FileEntry
from orz_train.algo.losses import LossReduction, token_weights
from orz_train.algo.segments import action_index
from orz_train.cluster.group import Group
from orz_train.cluster.residency import AllResident, ColocatedResidency
from orz_train.cluster.watch import NO_LIMIT, Deadline
from orz_train.data.balancing import deal, filled, masked
from orz_train.types import Metric, PackedRow, TrainRow

ANSWER_S = 1.0
"""How much longer than a rank the driver waits where both have a limit: so that the rank's own words arrive."""


def _files_of(ranks: Sequence[Mapping[str, FileEntry]]) -> dict[str, FileEntry]:
    """Return the files that all ranks wrote.

    One that two ranks wrote with other bytes, each to its own node's disk, is left out: the commit looks at it.
    """
    known: dict[str, FileEntry] = {}
    for files in ranks:
        known |= files
    return {name: entry for name, entry in known.items() if all(files.get(name, entry) == entry for files in ranks)}


class ClusterReference:
    """A frozen language model.

    Args:
        group: its ranks.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.on_device: AllResident | ColocatedResidency = AllResident()

    def logprobs(self, rows: Sequence[PackedRow], *, limit: Deadline = NO_LIMIT) -> list[Tensor]:
        """Return B tensors [T] f32."""
        return self._score("logprobs", rows, limit)

    def offload(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Leave the devices' memory."""
        self.group.call("offload", limit=limit)

    def onload(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Come back."""
        self.group.call("onload", limit=limit)

    def _score(
        self, method: Literal["logprobs", "values"], rows: Sequence[PackedRow], limit: Deadline = NO_LIMIT
    ) -> list[Any]:
        """Deal rows to ranks, equally many each, and put the results back in order."""
        if not rows:
            return []
        dealt = deal([len(row.token_ids_T) for row in rows], len(self.group))
        shards = filled(rows, dealt, masked(min(rows, key=lambda row: len(row.token_ids_T))))
        with self.on_device(self, limit=limit):
            answers = self.group.scatter(method, [(shard,) for shard in shards], limit=limit)
        scored = {
            index: answer
            for indices, of_rank in zip(dealt, answers, strict=True)
            for index, answer in zip(indices, of_rank, strict=False)  # fillers have no index
        }
        return [scored[index] for index in range(len(rows))]


class _Trained(ClusterReference):
    """What policy and critic share.

    Args:
        group: its ranks.
        reduction: of the loss.
    """

    def __init__(self, group: Group, *, reduction: LossReduction) -> None:
        super().__init__(group)
        self.reduction: LossReduction = reduction
        self.writers = {0}
        """Ranks that write whole weights: the first, or the first on each node's own disk."""

    @property
    def num_ranks(self) -> int:
        """D."""
        return len(self.group)

    def update(self, shards: Sequence[Sequence[TrainRow]]) -> list[Metric]:
        """Take one optimizer step on D shards of rows; the denominator is that of all rows."""
        rows = [row.row for shard in shards for row in shard]
        weights = iter(
            token_weights([row.segment_ids_T[action_index(row.action_mask_T)] for row in rows], self.reduction)
        )
        shares = [(list(shard), [next(weights) for _ in shard]) for shard in shards]
        with self.on_device(self):
            of_ranks = self.group.scatter("update", shares)
        return [metric for metrics in of_ranks for metric in metrics]

    def save(self, folder: Path) -> dict[str, FileEntry]:
        """Write a Hugging Face folder, on the node of each rank in `writers`; return the files of all ranks."""
        with self.on_device(self):
            return _files_of(self._on_writers("save", folder))

    def snapshot(self) -> None:
        """Copy weights and state to the host memory of the ranks' nodes."""
        with self.on_device(self):
            self._on_writers("snapshot")

    def write_snapshot(self, folder: Path, state: Path) -> None:
        """Let each rank begin to write its copies in the background."""
        self.group.call("write_snapshot", folder, state)

    def finish_snapshot(self, timeout_s: float | None = None) -> dict[str, FileEntry]:
        """Wait for the files of all ranks; their copies stay, as all must be written again if one fails."""
        limit = NO_LIMIT
        if timeout_s is not None:
            doing = "the answer whether the checkpoint in flight is written"
            limit = Deadline(round(timeout_s + ANSWER_S, 1), doing, remedy="see how fast the disk is")
        return _files_of(self.group.call("finish_snapshot", timeout_s, limit=limit))

    def drop_snapshot(self) -> None:
        """Free the copies of all ranks."""
        self.group.call("drop_snapshot")

    def end_writing(self, timeout_s: float) -> list[str]:
        """Wait until no rank writes any more, at once or in the background; say which still do, or may."""
        unsettled = self.group.unsettled("writing_ended", timeout_s, seconds=timeout_s + ANSWER_S)
        return [
            f"{member.slot} still writes" if answered else f"{member.slot} didn't answer; it may still write"
            for member, answered in unsettled.items()
        ]

    def save_state(self, folder: Path) -> dict[str, FileEntry]:
        """Write each rank's optimizer state; return the files of all ranks."""
        with self.on_device(self):
            return _files_of(self.group.call("save_state", folder))

    def _on_writers(self, method: str, *common: Any) -> list[Any]:
        """Call a method in which all ranks take part, and those in `writers` write; return what each returns."""
        if self.writers == {0}:
            return self.group.call(method, *common)
        ranks = range(len(self.group))
        return self.group.results(
            [self.group.submit_to(rank, method, *common, writes=rank in self.writers) for rank in ranks]
        )

    def load_state(self, folder: Path) -> None:
        """Read each rank's optimizer state; the weights come with the model folder."""
        with self.on_device(self):
            self.group.call("load_state", folder)


class ClusterPolicy(_Trained):
    """The language model in training."""


class ClusterCritic(_Trained):
    """The value model in training."""

    def values(self, rows: Sequence[PackedRow]) -> list[tuple[Tensor, Tensor]]:
        """Return B pairs of [T] and [S], f32."""
        return self._score("values", rows)
