"""What may change between a run and its continuation."""

from __future__ import annotations

from typing import Any, NamedTuple

from orz_train.config.fields import leaf_keys
from orz_train.config.problems import Key, dotted
from orz_train.config.schema import Config

_FREE_SECTIONS = ("checkpoint", "logging", "eval", "nonfinite")
_FREE_KEYS = {
    "description",
    "steps",
    "episodes",
    "data.eval",
    "data.expected_rows",
    "reward.workers",
    "reward.timeout_s",
    "cluster.address",
    "cluster.cpus_per_worker",
    "cluster.start_timeout_s",
    "cluster.gpu_memory_utilization",
    "cluster.kv_cache_gib",
    "cluster.weights.transfer",
    "cluster.weights.bucket_mib",
    "cluster.weights.timeout_s",
    "cluster.weights.probe",
    "local.num_threads",
}


class Difference(NamedTuple):
    """A setting that two configurations disagree on."""

    key: str
    old: Any
    new: Any


def differences(old: Config, new: Config) -> list[Difference]:
    """Return the settings that differ, in the schema's order.

    A section that only one of them has, such as a critic, counts with all its settings, None on the other side.
    """
    return [
        Difference(dotted(key), _value(old, key), _value(new, key))
        for key in leaf_keys()
        if _value(old, key) != _value(new, key)
    ]


def blocks_resume(difference: Difference, new: Config) -> bool:
    """Say whether a run can't go on under this difference, because what it has learnt would no longer fit it.

    How long the run lasts, and what it saves, logs and evaluates, may change; the length only under a constant
    learning rate, because the others fall to 0 over it. Of the cluster, what moves no number may: where it is, its
    patience, the room it reserves and the weights' way; ranks, engines and stages cut state or round differently.
    """
    if difference.key in {"steps", "episodes"}:
        models = [new.policy, *([new.critic] if new.critic else [])]
        return any(model.optimizer.schedule != "constant" for model in models)
    return difference.key not in _FREE_KEYS and difference.key.split(".")[0] not in _FREE_SECTIONS


def _value(config: Config, key: Key) -> Any:
    value: Any = config
    for name in key:
        value = None if value is None else getattr(value, name)
    return value
