"""ROLL: a JSON object of metrics, `{"actor/pg_loss@sum": 0.01, ...}`, then `pipeline step 12 finished`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.dicts import dicts_of
from orz_monitor.dialects.numbering import entries_of, number_by_next
from orz_monitor.log import Log
from orz_monitor.transport.lines import Segment

_OBJECT: Final = re.compile(rb'\{"[A-Za-z][\w/@. -]{0,150}": [-+\dNI"\[{nIi]')
_FINISHED: Final = re.compile(rb"pipeline step (?P<step>\d{1,15}) finished(?!, reached)")
_EVALUATED: Final = re.compile(r"val(?:_correct)?/(?P<set>[^/]+)/(?:mean|accuracy|score)$")


class Roll(Dialect):
    """The console of ROLL's pipelines."""

    name = "roll"
    title = "ROLL"
    has_whole_steps = True
    gates = (b'"actor/', b"pipeline ")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "actor/pg_loss": Meaning("policy/loss"),
        "actor/total_loss": Meaning("policy/total_loss"),
        "actor/loss": Meaning("policy/total_loss", rank=1),
        "actor/kl_loss": Meaning("policy/kl_ref"),
        "critic/kl": Meaning("policy/kl_ref", rank=1),
        "critic/kl_coef": Meaning("policy/kl_coef"),
        "actor/approxkl": Meaning("policy/kl_old", estimator="k2"),
        "actor/policykl": Meaning("policy/kl_old", estimator="k1", rank=1),
        "actor/entropy_loss": Meaning("policy/entropy", rank=1),
        "actor/entropy": Meaning("policy/entropy"),
        "critic/entropy/mean": Meaning("policy/entropy", rank=2),
        "actor/clipfrac": Meaning("policy/clip_frac"),
        "actor/ppo_ratio_clipfrac": Meaning("policy/clip_frac", rank=1),
        "actor/ppo_ratio_low_clipfrac": Meaning("policy/clip_frac_low"),
        "actor/ppo_ratio_high_clipfrac": Meaning("policy/clip_frac_high"),
        "actor/ratio_mean": Meaning("policy/ratio_mean"),
        "actor/ratio_min": Meaning("policy/ratio_min"),
        "actor/ratio_max": Meaning("policy/ratio_max"),
        "actor/grad_norm": Meaning("policy/grad_norm"),
        "actor/lr": Meaning("policy/lr"),
        "critic/loss": Meaning("critic/loss", rank=1),
        "critic/value_loss": Meaning("critic/loss"),
        "critic/vf_loss": Meaning("critic/loss", rank=2),
        "critic/vf_clipfrac": Meaning("critic/clip_frac"),
        "critic/clipfrac": Meaning("critic/clip_frac", rank=1),
        "critic/values/mean": Meaning("critic/value_mean"),
        "critic/values/max": Meaning("critic/value_max"),
        "critic/values/min": Meaning("critic/value_min"),
        "critic/grad_norm": Meaning("critic/grad_norm"),
        "critic/lr": Meaning("critic/lr"),
        "critic/score/mean": Meaning("reward/mean"),
        "critic/score/max": Meaning("reward/max"),
        "critic/score/min": Meaning("reward/min"),
        "critic/rewards/mean": Meaning("return/mean"),
        "critic/returns/mean": Meaning("return/token_mean"),
        "critic/advantages/max": Meaning("advantage/max"),
        "critic/advantages/min": Meaning("advantage/min"),
        "tokens/response_length/mean": Meaning("rollout/response_tokens_mean"),
        "tokens/response_length/max": Meaning("rollout/response_tokens_max"),
        "tokens/prompt_length/mean": Meaning("rollout/prompt_tokens_mean"),
        "time/step_rollout": Meaning("seconds/generate"),
        "time/step_generate": Meaning("seconds/generate", rank=1),
        "time/step_ref_log_probs_values_reward": Meaning("seconds/score", adds=True),
        "time/step_ref_log_probs_values": Meaning("seconds/score", adds=True),
        "time/step_old_log_probs_values": Meaning("seconds/score", adds=True),
        "time/step_train": Meaning("seconds/train_policy"),
        "time/step_model_update": Meaning("seconds/sync"),
        "time/step_val": Meaning("seconds/eval"),
        "time/step_total": Meaning("seconds/total"),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "rollout/truncated_frac": "ROLL does not log it; compare tokens/response_length/max with response_length.",
        "rollout/repetition": "ROLL does not log it; it prints samples beside the metrics.",
        "critic/explained_var": "ROLL does not log it.",
    }

    def read_segment(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment."""
        body = segment.body
        understood = False
        first = _OBJECT.search(body) if b'"actor/' in body else None
        if first is not None and b'[{"' not in body[: first.start() + 2]:  # which is a list of samples
            for found in dicts_of(body, _OBJECT):
                if b'"actor/' in body[found.start : found.end]:
                    row = log.add_pairs(self.name, found.pairs, line=number, time=segment.time, origin=segment.origin)
                    understood = understood or row is not None
        if match := _FINISHED.search(body):
            log.add_event(self.name, "step_end", line=number, step=int(match["step"]), time=segment.time)
            return True
        if body.rstrip().endswith(b"pipeline complete!"):
            log.add_event(self.name, "finish", line=number, time=segment.time, origin=segment.origin)
            return True
        return understood

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is, whatever `@sum` or `@mean` says of how its parts were joined."""
        plain = key.split("@", 1)[0]
        known = self.meanings.get(plain)
        if known is None and (match := _EVALUATED.match(plain)):
            return Meaning(f"eval/{match['set']}/accuracy")
        return known

    def number(self, log: Log) -> None:
        """Give objects the step that is said to be finished behind them."""
        waiting, last = number_by_next(entries_of(log, self.name))
        for step, row in enumerate(waiting, start=0 if last is None else last + 1):
            row.step = step
