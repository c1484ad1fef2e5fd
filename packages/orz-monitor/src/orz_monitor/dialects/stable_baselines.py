"""Stable-Baselines3: tables in boxes of dashes, `|    approx_kl            | 0.008        |`, below section names.

A key's last part stands alone on its line, and its section, as `train/`, on a line before. Long keys are cut by the
logger, with dots: they stay cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.log import Log
from orz_monitor.numbers import number
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.template import LONGEST_COUNT

_SECTION: Final = re.compile(rb"\| {1,4}(?P<name>[\w ]{1,60}/) *\| *\|$")
_CELL: Final = re.compile(rb"\| {1,8}(?P<key>[\w./%() -]{1,60}?) *\| (?P<value>\S{1,40}) *\|$")
_RULE: Final = re.compile(rb"-{10,400}$")
_STEPS: Final = (b"time/iterations", b"time/episodes")
"""What counts steps; the table of an evaluation has neither and is of the step before it."""
_MOST_STEPS: Final = 10**LONGEST_COUNT


class StableBaselines(Dialect):
    """The console of Stable-Baselines3's algorithms."""

    name = "sb3"
    title = "Stable-Baselines3"
    gates = (b"| rollout/  ", b"| time/  ", b"| eval/  ")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "train/policy_gradient_loss": Meaning("policy/loss"),
        "train/loss": Meaning("policy/total_loss"),
        "train/actor_loss": Meaning("policy/loss", rank=1),
        "train/approx_kl": Meaning("policy/kl_old", estimator="k3"),
        "train/clip_fraction": Meaning("policy/clip_frac"),
        "train/entropy_loss": Meaning("policy/entropy", scale=-1),
        "train/learning_rate": Meaning("policy/lr"),
        "train/value_loss": Meaning("critic/loss"),
        "train/critic_loss": Meaning("critic/loss", rank=1),
        "train/explained_variance": Meaning("critic/explained_var"),
        "rollout/ep_rew_mean": Meaning("reward/mean"),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "policy/grad_norm": "Stable-Baselines3 does not log it.",
        "policy/kl_ref": "Stable-Baselines3 has no reference.",
    }

    def __init__(self) -> None:
        super().__init__()
        self._opening: Segment | None = None
        self._line = 0
        self._section = b""
        self._pairs: list[tuple[bytes, bytes]] = []

    def read(self, line: Line, log: Log) -> bool:
        """Begin a table at its first section."""
        for segment in line.segments:
            if match := _SECTION.match(segment.body.strip()):
                self._add(log)
                self._opening, self._line, self._section = segment, line.number, match["name"]
                self.more_open = True
                return True
        return False

    def more(self, line: Line, log: Log) -> bool:
        """Collect the cells down to the rule below them."""
        belonged = False
        for segment in line.segments:
            if self._opening is None or segment.origin != self._opening.origin:
                continue
            body = segment.body.strip()
            if match := _SECTION.match(body):
                self._section = match["name"]
            elif match := _CELL.match(body):
                self._pairs.append((self._section + match["key"], match["value"]))
            elif _RULE.match(body):
                self._add(log)
            else:
                continue
            belonged = True
        return belonged

    def finish(self, log: Log) -> None:
        """Add a table whose end is missing."""
        self._add(log)

    def _add(self, log: Log) -> None:
        """Add what was collected."""
        opening, pairs = self._opening, self._pairs
        self._opening, self._pairs, self.more_open = None, [], False
        if opening is None or not pairs:
            return
        found = dict(pairs)
        counted = next((number(found[key]) for key in _STEPS if key in found), None)
        is_evaluation = any(key.startswith(b"eval/") for key in found) and not any(key in found for key in _STEPS)
        log.add_pairs(
            self.name,
            pairs,
            line=self._line,
            step=int(counted) if counted is not None and 0 <= counted < _MOST_STEPS else None,
            axis="eval" if is_evaluation else "",
            time=opening.time,
            origin=opening.origin,
        )
