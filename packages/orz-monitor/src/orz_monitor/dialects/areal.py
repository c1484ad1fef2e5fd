"""AReaL: `Epoch 1/2 Step 3/23 Train step 3/46 done.`, then tables in boxes, `│ key │ value │ key │ value │`.

A step may have several tables, `Stats (1/4):` and so on, one an update: the first one is the step's, the others have
an axis of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.log import Log
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import NOWHERE, Origin

_HEADER: Final = re.compile(rb"Train step (?P<step>\d{1,15})/(?P<total>\d{1,15}) done")
_TABLE: Final = re.compile(rb"Stats \((?P<index>\d{1,6})/(?P<count>\d{1,6})\):")
_BAR: Final = "│".encode()
_END: Final = "╘".encode()


class Areal(Dialect):
    """The console of AReaL's trainers."""

    name = "areal"
    title = "AReaL"
    bar_of_steps = "Train step"
    gates = (b" Train step ", b"Training completes! Total")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "ppo_actor/update/actor_loss/avg": Meaning("policy/loss"),
        "ppo_actor/update/loss/avg": Meaning("policy/total_loss"),
        "ppo_actor/update/entropy/avg": Meaning("policy/entropy"),
        "ppo_actor/update/approx_kl/avg": Meaning("policy/kl_old"),
        "ppo_actor/update/clip_ratio/avg": Meaning("policy/clip_frac"),
        "ppo_actor/update/dual_clip_ratio/avg": Meaning("policy/clip_frac_low"),
        "ppo_actor/update/importance_weight/avg": Meaning("policy/ratio_mean"),
        "ppo_actor/update/importance_weight/min": Meaning("policy/ratio_min"),
        "ppo_actor/update/importance_weight/max": Meaning("policy/ratio_max"),
        "ppo_actor/update/new_logp/avg": Meaning("policy/logprob_mean"),
        "ppo_actor/update/grad_norm": Meaning("policy/grad_norm"),
        "ppo_actor/update/lr": Meaning("policy/lr"),
        "ppo_actor/update/update_successful": Meaning("policy/skipped_updates", scale=-1, offset=1),
        "ppo_actor/update/behave_approx_kl/avg": Meaning("mismatch/kl_k1", estimator="k1"),
        "ppo_actor/update/behave_imp_weight/avg": Meaning("correction/weight_mean"),
        "ppo_actor/update/behave_imp_weight/max": Meaning("correction/weight_max"),
        "ppo_actor/update/rs_filtered_fraction": Meaning("correction/masked_frac"),
        "ppo_actor/update/version_stats/sample_staleness_avg": Meaning("staleness/mean"),
        "ppo_actor/update/version_stats/sample_staleness_max": Meaning("staleness/max"),
        "ppo_actor/task_reward/avg": Meaning("reward/mean"),
        "rollout/reward": Meaning("reward/mean", rank=1),
        "ppo_actor/task_reward/min": Meaning("reward/min"),
        "ppo_actor/task_reward/max": Meaning("reward/max"),
        "ppo_actor/final_reward/avg": Meaning("return/mean"),
        "ppo_actor/advantages/max": Meaning("advantage/max"),
        "ppo_actor/advantages/min": Meaning("advantage/min"),
        "ppo_actor/no_eos_ratios/avg": Meaning("rollout/truncated_frac"),
        "ppo_actor/seq_len/avg": Meaning("rollout/total_tokens_mean"),
        "ppo_actor/prompt_len/avg": Meaning("rollout/prompt_tokens_mean"),
        "ppo_critic/update/value_loss/avg": Meaning("critic/loss"),
        "ppo_critic/update/value_loss": Meaning("critic/loss", rank=1),
        "ppo_critic/update/grad_norm": Meaning("critic/grad_norm"),
        "ppo_critic/update/lr": Meaning("critic/lr"),
        "eval-rollout/reward": Meaning("eval/validation/accuracy"),
        "timeperf/rollout": Meaning("seconds/generate"),
        "timeperf/recompute_logp": Meaning("seconds/score", adds=True),
        "timeperf/ref_logp": Meaning("seconds/score", adds=True),
        "timeperf/compute_advantage": Meaning("seconds/score", adds=True),
        "timeperf/train_step": Meaning("seconds/train_policy"),
        "timeperf/critic_train_step": Meaning("seconds/train_critic"),
        "timeperf/update_weights": Meaning("seconds/sync"),
        "timeperf/eval": Meaning("seconds/eval"),
        "timeperf/save": Meaning("seconds/save"),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "policy/kl_ref": "ppo_actor/kl_rewards is the penalty, minus kl_ctl times the KL, which AReaL does not log.",
        "rollout/response_tokens_mean": "AReaL logs whole lengths: subtract prompt_len from seq_len.",
        "rollout/zero_variance_frac": "AReaL does not log it.",
        "critic/explained_var": "AReaL does not log it.",
    }

    def __init__(self) -> None:
        super().__init__()
        self._origin: Origin = NOWHERE
        self._step: int | None = None
        self._time: float | None = None
        self._index, self._count = 1, 1

    def read(self, line: Line, log: Log) -> bool:
        """Read the header of a step, or the end of the run."""
        understood = False
        for segment in line.segments:
            if match := _HEADER.search(segment.body):
                self._step, self._time, self._origin = int(match["step"]), segment.time, segment.origin
                self._index, self._count = 1, 1
                self.more_open = True
                log.add_tick(
                    self.name,
                    self.bar_of_steps,
                    self._step,
                    int(match["total"]),
                    line=line.number,
                    time=segment.time,
                )
                understood = True
            elif segment.body.startswith(b"Training completes!"):
                log.add_event(self.name, "finish", line=line.number, time=segment.time, origin=segment.origin)
                understood = True
        return understood

    def more(self, line: Line, log: Log) -> bool:
        """Read the tables that follow a header."""
        belonged = False
        for segment in line.segments:
            body = segment.body
            if _HEADER.search(body):
                self.more_open = False
                return False
            if match := _TABLE.search(body):
                self._index, self._count = int(match["index"]), int(match["count"])
                belonged = True
            elif _BAR in body:
                belonged = self._cells(segment, line.number, log) or belonged
            elif _END in body and self._index >= self._count:
                self.more_open = False
                belonged = True
        return belonged

    def _cells(self, segment: Segment, number: int, log: Log) -> bool:
        """Add the cells of one line of a table; a cell whose right border is missing may be half a number."""
        cells = [cell.strip() for cell in segment.body.split(_BAR)[1:-1]]
        pairs = [(key, value) for key, value in zip(cells[::2], cells[1::2], strict=False) if key]
        row = log.add_pairs(
            self.name,
            pairs,
            line=number,
            step=self._step,
            axis="" if self._index == 1 else "update",
            time=self._time,
            origin=self._origin,
        )
        return row is not None
