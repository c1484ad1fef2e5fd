"""What brings a metric into the log of a trainer: what `orz monitor check` says, or what to print it as."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from orz_monitor.dialects import KNOWN, find_dialect
from orz_monitor.dialects.generic.keys import MEANINGS
from orz_monitor.frameworks import OURS
from orz_monitor.metrics import logging
from orz_monitor.whose_names import GENERIC_NAME

_OURS: Final = {
    "critic": "train a critic: `algorithm.kind=ppo`",
    "policy/kl_loss": "`kl.loss_coef` above 0",
    "mismatch": "sampler log-probs are kept: every backend of orz-train does",
    "staleness": "only where sampling runs ahead of training",
    "correction": "only where sampling runs ahead of training",
    "reward/part": "return `Score(parts={...})` from the reward function",
    "eval": "`data.eval` and `eval.every_steps`",
}
"""Settings of orz-train that bring a metric, or a family of them, into the log."""
_MOST_KEYS: Final = 3


def how_to_log(name: str, framework: str, hints: Mapping[str, str] = MappingProxyType({})) -> str:
    """Say what brings a metric into the log of a trainer.

    Args:
        name: canonical metric name.
        framework: the trainer, as `Run.framework` has it.
        hints: what the dialect that read the log says, as `Run.hints` has it.
    """
    if framework == OURS and (setting := _OURS.get(name) or _OURS.get(name.partition("/")[0])):
        return setting
    return logging.how_to_log(name, framework, hints) or _called(name, framework)


def _called(name: str, framework: str) -> str:
    """Say what a metric has to be called to be understood."""
    if framework == OURS:
        return f"write {name} into metrics.jsonl"
    if framework == GENERIC_NAME:
        keys = [key for key, meaning in MEANINGS.items() if meaning.name == name]
        return f"log it as `{keys[0]}`" if keys else "no plain name of it is known; a dialect of yours can give it one"
    if framework not in KNOWN:
        return f"print it, and give its key a meaning in the dialect {framework}"
    dialect = find_dialect(KNOWN[framework])
    trainer = dialect.title or framework
    keys = [f"`{key}`" for key, meaning in dialect.meanings.items() if meaning.name == name]
    return f"{trainer} prints it as {' or '.join(keys[:_MOST_KEYS])}" if keys else f"{trainer} is not known to log it"
