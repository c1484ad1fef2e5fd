"""The fallback: lines of `key: number`, `key=number` or `"key": number` of a trainer that nobody has described.

It reads a log in which no dialect found a metric. What a key means is guessed for the plainest names only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.log import Log
from orz_monitor.transport.lines import Line

_PAIR: Final = re.compile(
    rb"(?<![\w/.])['\"]?(?P<key>[A-Za-z_][\w/.@-]{0,80})['\"]?(?P<unit>\([^()\s]{1,20}\))?[ \t]{0,8}[:=][ \t]{0,8}"
    rb"(?P<value>(?:np\.\w{1,12}\(|tensor\()?['\"]?[-+]?(?:\d[\d.]{0,30}(?:[eE][-+]?\d{1,4})?|nan|inf)[A-Za-z%]{0,3}(?:/[A-Za-z]{1,10})?['\"]?\)?)"
    rb"(?=[\s,;|\]})\"']|$)",
    re.IGNORECASE,
)
_STEP: Final = re.compile(
    rb"\b(?:global[_ ]?step|train[_ ]?step|step|iteration|iter|update)s?['\"]?[ \t:=#\[]{1,4}(?P<step>\d{1,12})",
    re.IGNORECASE,
)
_STEP_KEYS: Final = {"step", "global_step", "train_step", "iteration", "iter", "update", "_step", "steps"}
_LONGEST: Final = 1 << 14


class Generic(Dialect):
    """Whatever has a name and a number."""

    name = "generic"
    title = "an unknown trainer"
    gates = (b"loss", b"reward", b"Loss", b"Reward")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "loss": Meaning("policy/total_loss"),
        "train_loss": Meaning("policy/total_loss", rank=1),
        "policy_loss": Meaning("policy/loss"),
        "pg_loss": Meaning("policy/loss", rank=1),
        "actor_loss": Meaning("policy/loss", rank=2),
        "value_loss": Meaning("critic/loss"),
        "critic_loss": Meaning("critic/loss", rank=1),
        "explained_variance": Meaning("critic/explained_var"),
        "kl": Meaning("policy/kl_ref"),
        "approx_kl": Meaning("policy/kl_old"),
        "entropy": Meaning("policy/entropy"),
        "clip_fraction": Meaning("policy/clip_frac"),
        "clipfrac": Meaning("policy/clip_frac", rank=1),
        "grad_norm": Meaning("policy/grad_norm"),
        "lr": Meaning("policy/lr"),
        "learning_rate": Meaning("policy/lr", rank=1),
        "reward": Meaning("reward/mean"),
        "mean_reward": Meaning("reward/mean", rank=1),
        "reward_mean": Meaning("reward/mean", rank=2),
        "reward_std": Meaning("reward/std"),
        "response_length": Meaning("rollout/response_tokens_mean"),
        "epoch": Meaning("data/epoch"),
    }

    def read(self, line: Line, log: Log) -> bool:
        """Read the pairs of a line."""
        understood = False
        for segment in line.segments:
            body = segment.body[:_LONGEST]
            pairs = [(match["key"] + (match["unit"] or b""), match["value"]) for match in _PAIR.finditer(body)]
            if not pairs:
                continue
            step = _STEP.search(body)
            row = log.add_pairs(
                self.name,
                [(key, value) for key, value in pairs if key.decode("ascii", "replace").lower() not in _STEP_KEYS],
                line=line.number,
                step=int(step["step"]) if step is not None else None,
                time=segment.time,
                origin=segment.origin,
            )
            understood = understood or row is not None
        return understood
