"""Weights through the memory of the CPU: any devices, any machines."""

from __future__ import annotations

from collections.abc import Sequence

from orz_train.backends.weights.bucket import ParamMeta, plan_buckets
from orz_train.cluster.group import Group
from orz_train.cluster.watch import Deadline


class HostTransfer:
    """Gathers the policy's weights in buckets and loads each into every engine, while the next is gathered.

    A bucket goes from policy rank 0 straight to the engines' nodes; the driver only holds its ref.

    Args:
        policy: its ranks.
        engines: all of them.
        bucket_bytes: of one bucket.
    """

    def __init__(self, policy: Group, engines: Group, *, bucket_bytes: int) -> None:
        self.policy = policy
        self.engines = engines
        self.bucket_bytes = bucket_bytes
        self.buckets: list[tuple[ParamMeta, ...]] = []

    def connect(self, params: Sequence[ParamMeta], limit: Deadline) -> None:
        """Plan the buckets of these parameters, once before the first `move`."""
        self.buckets = plan_buckets(params, self.bucket_bytes)
        self.engines.call("init_transfer", {}, limit=limit)

    def move(self, version: int, limit: Deadline) -> None:
        """Bring the present weights to all engines, as `version`."""
        names = [[param.name for param in bucket] for bucket in self.buckets]
        loading = self.engines.submit("start_update")
        gathering = self.policy.submit("bucket", names[0])
        for following in [*names[1:], None]:
            self.policy.finish(gathering, limit)
            bucket = gathering[0].value
            gathering = self.policy.submit("bucket", following) if following is not None else []
            self.engines.finish(loading, limit)
            loading = self.engines.submit("load", bucket)
        self.engines.finish(loading, limit)
        self.engines.call("finish_update", version, limit=limit)
