"""SkyRL: `Step 41: ` and a dictionary of quoted numbers over many lines, with timers and rewards before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.blocks import DictBlock
from orz_monitor.dialects.numbering import entries_of, number_by_next
from orz_monitor.log import Log
from orz_monitor.transport.lines import Line, Segment

_STEP: Final = re.compile(rb"Step (?P<step>\d{1,15}):(?= *(?:\{|$))")
_TIMER: Final = re.compile(rb"Finished: '(?P<what>[^'\n]{1,100})', time cost: (?P<seconds>\d{1,9}(?:\.\d{1,6})?s)")
_REWARDS: Final = b"reward/avg_pass_at_"
_PAIR: Final = re.compile(rb"(?:^|, )(?P<key>[A-Za-z_][\w/@.-]{0,100}): (?P<value>[^,\s]{1,60})")
_PASS_AT: Final = re.compile(r"reward/avg_pass_at_\d+$")
_EVALUATED: Final = re.compile(r"eval/(?P<set>[^/]+)/(?:avg_score|pass_at_(?P<k>\d+))$")
_TIMER_KEY: Final = "timer/"
_PHASES: Final = {
    "step": "total",
    "generate": "generate",
    "policy_train": "train_policy",
    "critic_train": "train_critic",
    "train_critic_and_policy": "train_policy",
    "fwd_logprobs_values_reward": "score",
    "sync_weights": "sync",
    "eval": "eval",
    "save_checkpoints": "save",
}


class SkyRl(Dialect):
    """The console of SkyRL's trainers."""

    name = "skyrl"
    title = "SkyRL"
    gates = (b"Step ", b"Finished: '", _REWARDS)
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "policy/policy_loss": Meaning("policy/loss"),
        "policy/final_loss": Meaning("policy/total_loss"),
        "policy/policy_entropy": Meaning("policy/entropy"),
        "policy/policy_kl": Meaning("policy/kl_ref"),
        "loss/avg_kl": Meaning("policy/kl_ref", rank=1),
        "loss/avg_kl_max": Meaning("policy/kl_ref_max"),
        "loss/kl_loss_coef": Meaning("policy/kl_coef"),
        "policy/policy_lr": Meaning("policy/lr"),
        "policy/grad_norm": Meaning("policy/grad_norm"),
        "policy/raw_grad_norm": Meaning("policy/grad_norm", rank=-1),
        "policy/loss_metrics/clip_ratio": Meaning("policy/clip_frac"),
        "policy/ppo_clip_ratio": Meaning("policy/clip_frac", rank=1),
        "policy/rollout_train_logprobs_abs_diff_mean": Meaning("mismatch/logprob_abs_mean"),
        "policy/rollout_train_logprobs_abs_diff_max": Meaning("mismatch/logprob_abs_max"),
        "critic/critic_loss": Meaning("critic/loss"),
        "critic/values_clipfrac": Meaning("critic/clip_frac"),
        "critic/values_mean": Meaning("critic/value_mean"),
        "critic/critic_lr": Meaning("critic/lr"),
        "reward/avg_raw_reward": Meaning("reward/mean"),
        "reward/num_zero_variance_groups": Meaning("rollout/zero_variance_groups"),
        "reward/num_zero_variance_filtered": Meaning("rollout/zero_variance_groups", rank=1),
        "loss/avg_final_rewards": Meaning("return/mean"),
        "loss/avg_raw_rewards": Meaning("return/mean", rank=1),
        "loss/avg_raw_advantages_abs": Meaning("advantage/abs_mean"),
        "generate/avg_num_tokens": Meaning("rollout/response_tokens_mean"),
        "policy/response_length": Meaning("rollout/response_tokens_mean", rank=1),
        "generate/max_num_tokens": Meaning("rollout/response_tokens_max"),
        "trainer/epoch": Meaning("data/epoch"),
        "trainer/tokens_per_second_per_gpu": Meaning("tokens/per_second_per_device"),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "rollout/truncated_frac": "SkyRL does not log it; compare generate/max_num_tokens with the limit.",
        "rollout/zero_variance_frac": "SkyRL logs how many groups (reward/num_zero_variance_*), not their share.",
        "rollout/repetition": "SkyRL does not log it; dump trajectories with trainer.dump_data_batch=true.",
        "engine/kv_cache_usage": "workers log to SKYRL_LOG_FILE; give that file too.",
    }

    def __init__(self) -> None:
        super().__init__()
        self._block = DictBlock()
        self._step = 0

    def read_segment(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment."""
        body = segment.body
        if match := _STEP.match(body):
            self._step = int(match["step"])
            self._block.begin(body[match.end() :], number, segment)
            self._settle(log)
            return True
        if match := _TIMER.search(body):
            pairs = [(_TIMER_KEY.encode() + match["what"], match["seconds"])]
        elif body.startswith(_REWARDS):
            pairs = [(match["key"], match["value"]) for match in _PAIR.finditer(body)]
        else:
            return False
        return log.add_pairs(self.name, pairs, line=number, time=segment.time, origin=segment.origin) is not None

    def more(self, line: Line, log: Log) -> bool:
        """Collect the lines of the dictionary."""
        belonged = self._block.take(line)
        self._settle(log)
        return belonged

    def finish(self, log: Log) -> None:
        """Add a dictionary whose end is missing."""
        self._add(log)

    def _settle(self, log: Log) -> None:
        """Add the dictionary if it is complete, else ask for more lines."""
        self.more_open = not self._block.is_closed
        if self._block.is_closed:
            self._add(log)

    def _add(self, log: Log) -> None:
        """Add what was collected."""
        segment = self._block.segment
        if segment is None:
            return
        pairs = self._block.pairs()
        is_evaluation = bool(pairs) and all(key.startswith(b"eval/") for key, _ in pairs)
        log.add_pairs(
            self.name,
            pairs,
            line=self._block.line,
            step=self._step,
            axis="eval" if is_evaluation else "",
            time=segment.time,
            origin=segment.origin,
        )

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; timers and evaluations have their names in their keys."""
        known = self.meanings.get(key)
        if known is not None:
            return known
        if _PASS_AT.match(key):
            return Meaning("reward/pass_at_n")
        if match := _EVALUATED.match(key):
            if match["k"] in {None, "1"}:
                return Meaning(f"eval/{match['set']}/accuracy", rank=0 if match["k"] is None else 1)
            return Meaning(f"eval/{match['set']}/pass_at_k", rank=-int(match["k"]))
        for start, rank in (("timing/", 0), (_TIMER_KEY, 1)):
            if key.startswith(start) and (phase := _PHASES.get(key.removeprefix(start))):
                return Meaning(f"seconds/{phase}", rank=rank + (2 if key.endswith("_critic_and_policy") else 0))
        return None

    def number(self, log: Log) -> None:
        """Give timers and rewards the step of the dictionary that follows."""
        waiting, last = number_by_next(entries_of(log, self.name))
        for row in waiting:
            row.step = 1 if last is None else last + 1
