"""slime and miles: `rollout 3: {...}`, `step 7: {...}`, `perf 3: {...}`, `eval 3: {...}`, `passrate 3: {...}`.

There are two counters: of rollouts, and of optimizer steps, several a rollout. Steps of the run are optimizer steps;
what is printed by rollout goes to the last one of its rollout.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.dicts import dict_and_end
from orz_monitor.dialects.numbering import entries_of
from orz_monitor.log import Log, Row
from orz_monitor.transport.lines import Segment

_LINE: Final = re.compile(
    rb"(?:.{0,80}? - )?(?P<what>rollout|step|[a-z]{1,20}-step|perf|eval|passrate|multi_turn) (?P<id>\d{1,12}): "
    rb"(?=\{['\"])"
)
_TIMER: Final = re.compile(rb"Timer (?P<what>[\w./-]{1,80}) end \(elapsed: (?P<time>\d{1,12}(?:\.\d{1,6})?m?s)\)")
_BY_ROLLOUT: Final = "rollout"
_AXES: Final = {
    b"eval": "eval",
    b"rollout": _BY_ROLLOUT,
    b"perf": _BY_ROLLOUT,
    b"passrate": _BY_ROLLOUT,
    b"multi_turn": _BY_ROLLOUT,
}
_TIMER_KEY: Final = "timer/"
_MOST_STEPS_EACH: Final = 10_000
_PASS_AT: Final = re.compile(r"passrate/pass@(?P<k>\d{1,6})$")
_EVALUATED: Final = re.compile(r"eval/(?P<set>[^/]+?)(?P<what>|-truncated_ratio|/response_len/mean)$")
_EVALUATIONS: Final = {
    "": "accuracy",
    "-truncated_ratio": "truncated_frac",
    "/response_len/mean": "response_tokens_mean",
}


class Slime(Dialect):
    """The console of slime and of miles, which is made from it."""

    name = "slime"
    title = "slime"
    gates = (b": {'", b" end (elapsed: ")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "train/pg_loss": Meaning("policy/loss"),
        "train/loss": Meaning("policy/total_loss"),
        "train/entropy_loss": Meaning("policy/entropy"),
        "rollout/entropy": Meaning("policy/entropy", rank=1),
        "train/pg_clipfrac": Meaning("policy/clip_frac"),
        "train/ppo_kl": Meaning("policy/kl_old", estimator="k1"),
        "train/kl_loss": Meaning("policy/kl_ref"),
        "rollout/kl": Meaning("policy/kl_ref", rank=1),
        "train/grad_norm": Meaning("policy/grad_norm"),
        "train/lr-pg_0": Meaning("policy/lr"),
        "train/ois": Meaning("policy/ratio_mean"),
        "rollout/log_probs": Meaning("policy/logprob_mean"),
        "train/train_rollout_logprob_abs_diff": Meaning("mismatch/logprob_abs_mean"),
        "train/tis": Meaning("correction/weight_mean"),
        "train/tis_clipfrac": Meaning("correction/clip_frac"),
        "train/opsm_clipfrac": Meaning("correction/masked_frac"),
        "train/value_loss": Meaning("critic/loss"),
        "train/critic-value_loss": Meaning("critic/loss", rank=1),
        "train/value_clipfrac": Meaning("critic/clip_frac"),
        "train/critic-value_clipfrac": Meaning("critic/clip_frac", rank=1),
        "train/critic-grad_norm": Meaning("critic/grad_norm"),
        "train/critic-lr-pg_0": Meaning("critic/lr"),
        "rollout/values": Meaning("critic/value_mean"),
        "rollout/raw_reward": Meaning("reward/mean"),
        "rollout/rewards": Meaning("return/mean"),
        "rollout/response_lengths": Meaning("rollout/response_tokens_mean"),
        "rollout/response_len/mean": Meaning("rollout/response_tokens_mean", rank=1),
        "rollout/response_len/max": Meaning("rollout/response_tokens_max"),
        "rollout/total_lengths": Meaning("rollout/total_tokens_mean"),
        "rollout/truncated_ratio": Meaning("rollout/truncated_frac"),
        "rollout/truncated": Meaning("rollout/truncated_frac", rank=1),
        "rollout/repetition_frac": Meaning("rollout/repetition"),
        "perf/rollout_time": Meaning("seconds/generate"),
        "perf/ref_log_probs_time": Meaning("seconds/score", adds=True),
        "perf/log_probs_time": Meaning("seconds/score", adds=True),
        "perf/actor_train_time": Meaning("seconds/train_policy"),
        "perf/critic_train_time": Meaning("seconds/train_critic"),
        "perf/update_weights_time": Meaning("seconds/sync"),
        "perf/save_model_time": Meaning("seconds/save"),
        "perf/step_time": Meaning("seconds/total"),
        "perf/tokens_per_gpu_per_sec": Meaning("tokens/per_second_per_device"),
        "perf/wait_time_ratio": Meaning("idle/trainer_frac"),
        "timer/update_weights": Meaning("seconds/sync", rank=1),
        "timer/actor_train": Meaning("seconds/train_policy", rank=1),
        "timer/save_model": Meaning("seconds/save", rank=1),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "policy/kl_ref": "give --use-kl-loss, with --kl-loss-coef 0 to watch it only.",
        "mismatch/logprob_abs_mean": "give --get-mismatch-metrics or --use-tis.",
        "rollout/zero_variance_frac": "slime logs counts (rollout/zero_std/count_*), not the share.",
        "critic/explained_var": "slime does not log it.",
    }

    def read_segment(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment."""
        understood, at = False, 0
        while (match := _LINE.match(segment.body, at)) is not None:  # of several that were glued together
            pairs, at = dict_and_end(segment.body, match.end())
            row = log.add_pairs(
                self.name,
                pairs,
                line=number,
                step=int(match["id"]),
                axis=_AXES.get(match["what"], ""),
                time=segment.time,
                origin=segment.origin,
            )
            understood = understood or row is not None
        if match := _TIMER.search(segment.body, at):
            pairs = [(_TIMER_KEY.encode() + match["what"], match["time"])]
            row = log.add_pairs(
                self.name, pairs, line=number, axis=_BY_ROLLOUT, time=segment.time, origin=segment.origin
            )
            understood = understood or row is not None
        return understood

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; evaluation sets have their names in their keys."""
        known = self.meanings.get(key)
        if known is not None:
            return known
        if key.startswith("rollout/zero_std/count_"):  # a key for each reward that some group agrees on
            return Meaning("rollout/zero_variance_groups", adds=True)
        if match := _PASS_AT.match(key):
            return Meaning("reward/pass_at_n", rank=-int(match["k"]))  # of several, that of the whole group
        if match := _EVALUATED.match(key):
            return Meaning(f"eval/{match['set']}/{_EVALUATIONS[match['what']]}")
        return None

    def number(self, log: Log) -> None:
        """Turn rollouts into optimizer steps: rollout r ends with step `(r + 1) * n - 1`, at n steps a rollout."""
        rows = [entry for entry in entries_of(log, self.name) if isinstance(entry, Row)]
        steps_each = _steps_each(rows)
        for row in rows:
            if row.step is not None and row.axis:
                row.step = (row.step + 1) * steps_each - 1
            if row.axis == _BY_ROLLOUT and steps_each == 1:
                row.axis = ""  # one counter is as good as the other
        step = next((row.step for row in rows if row.step is not None), 0)
        for row in rows:
            row.step = step = step if row.step is None else row.step


def _steps_each(rows: Sequence[Row]) -> int:
    """Return how many optimizer steps follow a rollout, by what most rollouts show."""
    found: Counter[int] = Counter()
    rollout: int | None = None
    last: int | None = None
    for row in rows:
        if row.step is None or row.axis == "eval":
            continue
        if not row.axis:
            last = row.step
        elif row.step != rollout:
            _count(found, rollout, last)
            rollout, last = row.step, None
    _count(found, rollout, last)
    return found.most_common(1)[0][0] if found else 1


def _count(found: Counter[int], rollout: int | None, last: int | None) -> None:
    """Count what one rollout and the last optimizer step after it say."""
    if rollout is not None and last is not None:
        each, rest = divmod(last + 1, rollout + 1)
        if rest == 0 and each <= _MOST_STEPS_EACH:
            found[each] += 1
