"""Sampling with several engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orz_train.cluster.group import Group
from orz_train.cluster.residency import AllResident, ColocatedResidency
from orz_train.cluster.watch import NO_LIMIT, Deadline
from orz_train.ports import Sampling
from orz_train.types import Prompt, Rollout


class ClusterGenerator:
    """Deals prompts to engines, always in the same way, so that a run can be repeated.

    Args:
        group: the engines.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.on_device: AllResident | ColocatedResidency = AllResident()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int) -> Iterator[Rollout]:
        """Yield rollouts as they finish, `num_samples` of each prompt; all samples of a prompt come from one engine."""
        numbered = list(enumerate(prompts))
        shares = [numbered[engine :: len(self.group)] for engine in range(len(self.group))]
        with self.on_device(self):
            for batch in self.group.streams("generate", [(share, sampling) for share in shares], step=step):
                yield from batch

    def offload(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Leave the devices' memory."""
        self.group.call("sleep", limit=limit)

    def onload(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Come back."""
        self.group.call("wake", limit=limit)

    def onload_weights(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Come back without the key-value cache."""
        self.group.call("wake", ["weights"], limit=limit)

    def onload_cache(self, *, limit: Deadline = NO_LIMIT) -> None:
        """Come back with the rest."""
        self.group.call("wake", ["kv_cache"], limit=limit)
