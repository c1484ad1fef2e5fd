"""Weights from GPU to GPU: the policy's ranks send them themselves, and rank 0 tells the engines what comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from orz_train.backends.weights.bucket import ParamMeta
from orz_train.cluster.group import Group
from orz_train.cluster.watch import Deadline
from orz_train.cluster.worker import WorkerFailure


class DeviceTransfer:
    """Lets each policy rank hold its end of a connection to all engines.

    The bytes never meet the driver, nor do the calls that go with them. What goes wrong does: a failing engine tells
    the driver itself, for by then the sender may wait for that engine in a collective which never ends.

    Args:
        policy: its ranks.
        engines: all of them.
        connector: the function, named `module:function`, that makes a rank's sender.
        bucket_bytes: that travel at a time.
        settings: what the connector wants to know besides.
    """

    def __init__(
        self, policy: Group, engines: Group, *, connector: str, bucket_bytes: int, settings: Mapping[str, Any]
    ) -> None:
        self.policy = policy
        self.engines = engines
        self.connector = connector
        self.bucket_bytes = bucket_bytes
        self.settings = settings

    def connect(self, params: Sequence[ParamMeta], limit: Deadline) -> None:
        """Join ranks and engines, once before the first `move`; the largest of the parameters has to fit a bucket."""
        common = {
            **self.settings,
            "engines": EngineCalls([member.actor for member in self.engines.members]),
            "bucket_bytes": max(self.bucket_bytes, *(param.nbytes for param in params)),
        }
        ranks = [{**common, "rank": rank} for rank in range(len(self.policy))]
        self.policy.results(self.policy.apply(self.connector, ranks), limit)

    def move(self, version: int, limit: Deadline) -> None:
        """Bring the present weights to all engines, as `version`."""
        self.policy.call("send", version, limit=limit)


class EngineCalls:
    """All engines, as vLLM's senders call them (`VLLMWeightSyncClient`); it travels to policy rank 0.

    A call returns when every engine has answered, and may run in a thread beside the sending.

    Args:
        actors: handles of the engines' workers.
    """

    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors = list(actors)
        self.version = -1
        """Of the weights that are sent next; vLLM's senders don't say it."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Connect."""
        self._call("init_transfer", init_info)

    def start_weight_update(self) -> None:
        """Begin."""
        self._call("start_update")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive what the message describes."""
        self._call("receive", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:  # noqa: ARG002  # vLLM's signature
        """End."""
        self._call("finish_update", self.version)

    def _call(self, method: str, *positional: Any) -> None:
        """Call a method on all engines at once.

        Raises:
            WorkerFailure: an engine's, as it is.
            ConnectionError: an engine has ended; the driver knows how.
        """
        answers = [actor.serve.remote(method, *positional) for actor in self.actors]
        try:
            ray.get(answers)
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, WorkerFailure) else error) from None
        except RayActorError:
            raise ConnectionError(f"lost the connection to an engine in {method}") from None
