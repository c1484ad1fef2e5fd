"""Asking a node of the cluster, by a task that takes no CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orz_train.checkpoint.nodes import call
from orz_train.cluster.errors import ClusterError
from orz_train.errors import OrzError

_CALL = ray.remote(call)
"""Of a module, so that it travels by name, and made once: Ray keeps each for as long as the driver lives."""


def ask(node_id: str, function: str, arguments: Mapping[str, Any]) -> Any:
    """Begin to run a function, named `module:function`, on a node that has orz_train; return the ref of its answer.

    Args:
        node_id: Ray's.
        function: that can be imported there.
        arguments: by name.
    """
    return _begin(_CALL, node_id, function, dict(arguments))


def begin(node_id: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Begin to run a function on a node that need not have orz_train; return the ref of its answer.

    Each time Ray keeps the function for as long as the driver lives.

    Args:
        node_id: Ray's.
        function: nested in another, so that it travels by value.
        arguments: its own.
    """
    return _begin(ray.remote(function), node_id, *arguments)


def _begin(remote: Any, node_id: str, *arguments: Any) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return remote.options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(*arguments)


def answer(name: str, ref: Any, end: float | None = None) -> Any:
    """Fetch what the node called `name` answered, until `end` of the monotonic clock.

    Raises:
        ClusterError: it doesn't answer, or is gone.
        OrzError: what the function raised there.
    """
    try:
        return ray.get(ref, timeout=None if end is None else max(0.0, end - time.monotonic()))
    except RayTaskError as error:
        if isinstance(error.cause, OrzError):
            raise error.cause from None
        raise ClusterError(
            f"node {name}: {type(error.cause).__name__}: {error.cause}", remedy="look at that node and its disk"
        ) from error
    except GetTimeoutError as error:
        raise ClusterError(f"node {name} doesn't answer", remedy="see `ray status`") from error
    except RayError as error:
        raise ClusterError(
            f"node {name} is gone: {str(error).strip().splitlines()[0]}",
            remedy="see `ray status`; then go on from the last checkpoint: the same command with --run-dir of this run",
        ) from error
