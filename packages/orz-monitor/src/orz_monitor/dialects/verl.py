"""verl and its forks, every era: `step:12 - actor/pg_loss:0.0123 - timing_s/gen:18.05`.

Until mid-2025 values were printed as `.3f`: a learning rate of 1e-6 reads as `0.000`. Since then they are printed in
full, and numpy's as `np.float64(0.0123)`.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np

from orz_monitor.dialects.bars import read_bar
from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.dicts import dict_pairs, is_closed
from orz_monitor.dialects.layout import Layouts
from orz_monitor.log import Log
from orz_monitor.numbers import integers_at
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import NOWHERE, Origin

_STEP: Final = re.compile(rb"step:(\d{1,15})(?: - |$)")
_RESUMED: Final = re.compile(rb"[Ss]etting global step to (\d{1,15})")
_NOT_FINITE: Final = re.compile(rb"rank (\d{1,6}) grad_norm is not finite: (\S{1,20})")
_TOTAL: Final = re.compile(rb"Total training steps: (\d{1,15})")
_EVALUATED: Final = re.compile(r"val(?:-core|-aux)?/(?P<set>.+)/(?:acc|reward|score)/mean@(?P<k>\d+)$")
_TEST_SCORE: Final = re.compile(r"(?:val/)?test_score/(?P<set>.+)$")
_NO_PREFIX: Final = b"\n"
"""No line begins so."""
_SUFFIXES: Final = (b"]", b"options.)")
"""How a line ends on which more may stand than the metrics."""
_BETWEEN: Final = b" - "
_MOST_DIGITS: Final = 15
_MOST_BLOCK_BYTES: Final = 1 << 18


class Verl(Dialect):
    """The console logger of verl."""

    name = "verl"
    title = "verl"
    has_whole_steps = True
    bulk = b"step:"
    gates = (b"step:", b"validation metrics", b"global step to ", b"grad_norm is not finite", b"Training Progress:")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "actor/pg_loss": Meaning("policy/loss"),
        "actor/loss": Meaning("policy/total_loss"),
        "actor/kl_loss": Meaning("policy/kl_ref", estimator="k3"),
        "actor/reward_kl_penalty": Meaning("policy/kl_ref", estimator="k1", rank=1),
        "critic/kl": Meaning("policy/kl_ref", estimator="k1", rank=1),
        "actor/kl_coef": Meaning("policy/kl_coef"),
        "actor/reward_kl_penalty_coeff": Meaning("policy/kl_coef", rank=1),
        "critic/kl_coeff": Meaning("policy/kl_coef", rank=1),
        "actor/ppo_kl": Meaning("policy/kl_old", estimator="k1"),
        "actor/entropy": Meaning("policy/entropy"),
        "actor/entropy_loss": Meaning("policy/entropy", rank=1),
        "actor/pg_clipfrac": Meaning("policy/clip_frac"),
        "actor/pg_clipfrac_lower": Meaning("policy/clip_frac_low"),
        "actor/grad_norm": Meaning("policy/grad_norm"),
        "actor/lr": Meaning("policy/lr"),
        "actor/lr(1e-4)": Meaning("policy/lr", scale=1e-4, rank=1),
        "critic/vf_loss": Meaning("critic/loss"),
        "critic/vf_clipfrac": Meaning("critic/clip_frac"),
        "critic/vf_explained_var": Meaning("critic/explained_var"),
        "critic/vpred_mean": Meaning("critic/value_mean"),
        "critic/values/mean": Meaning("critic/value_mean", rank=1),
        "critic/values/max": Meaning("critic/value_max"),
        "critic/values/min": Meaning("critic/value_min"),
        "critic/grad_norm": Meaning("critic/grad_norm"),
        "critic/lr": Meaning("critic/lr"),
        "critic/lr(1e-4)": Meaning("critic/lr", scale=1e-4, rank=1),
        "critic/score/mean": Meaning("reward/mean"),
        "critic/score/max": Meaning("reward/max"),
        "critic/score/min": Meaning("reward/min"),
        "critic/rewards/mean": Meaning("return/mean"),
        "critic/returns/mean": Meaning("return/token_mean"),
        "response_length/mean": Meaning("rollout/response_tokens_mean"),
        "response_length/max": Meaning("rollout/response_tokens_max"),
        "response_length/clip_ratio": Meaning("rollout/truncated_frac"),
        "response/aborted_ratio": Meaning("rollout/aborted_frac"),
        "prompt_length/mean": Meaning("rollout/prompt_tokens_mean"),
        "perf/throughput": Meaning("tokens/per_second_per_device"),
        "Tokens/Sec/GPU": Meaning("tokens/per_second_per_device", rank=1),
        "perf/mfu/actor": Meaning("tokens/mfu"),
        "mfu/actor": Meaning("tokens/mfu", rank=1),
        "perf/total_num_tokens": Meaning("tokens/total"),
        "total_num_tokens": Meaning("tokens/total", rank=1),
        "training/epoch": Meaning("data/epoch"),
        "training/rollout_probs_diff_mean": Meaning("mismatch/prob_abs_mean"),
        "training/rollout_probs_diff_max": Meaning("mismatch/prob_abs_max"),
        "training/rollout_actor_probs_pearson_corr": Meaning("mismatch/prob_corr"),
        "rollout_corr/kl": Meaning("mismatch/kl_k1", estimator="k1"),
        "rollout_corr/k3_kl": Meaning("mismatch/kl_k3", estimator="k3"),
        "rollout_corr/chi2_token": Meaning("correction/chi2_token"),
        "rollout_corr/log_ppl_abs_diff": Meaning("mismatch/log_ppl_abs_diff"),
        "rollout_corr/rollout_is_mean": Meaning("correction/weight_mean"),
        "rollout_corr/rollout_is_std": Meaning("correction/weight_std"),
        "rollout_corr/rollout_is_max": Meaning("correction/weight_max"),
        "rollout_corr/rollout_is_eff_sample_size": Meaning("correction/effective_frac"),
        "rollout_corr/rollout_rs_masked_fraction": Meaning("correction/masked_frac"),
        "trainer/idle_ratio": Meaning("idle/trainer_frac"),
        "timing_s/gen": Meaning("seconds/generate"),
        "timing_s/reward": Meaning("seconds/reward"),
        "timing_s/old_log_prob": Meaning("seconds/score", adds=True),
        "timing_s/ref": Meaning("seconds/score", adds=True),
        "timing_s/values": Meaning("seconds/score", adds=True),
        "timing_s/update_critic": Meaning("seconds/train_critic"),
        "timing_s/update_actor": Meaning("seconds/train_policy"),
        "timing_s/update_weights": Meaning("seconds/sync"),
        "timing_s/testing": Meaning("seconds/eval"),
        "timing_s/save_checkpoint": Meaning("seconds/save"),
        "timing_s/step": Meaning("seconds/total"),
        "time_per_step": Meaning("seconds/total", rank=1),
        "perf/time_per_step": Meaning("seconds/total", rank=1),
        "timing/gen": Meaning("seconds/generate", rank=1),
        "timing/ref": Meaning("seconds/score", adds=True),
        "timing/values": Meaning("seconds/score", adds=True),
        "timing/update_critic": Meaning("seconds/train_critic", rank=1),
        "timing/update_actor": Meaning("seconds/train_policy", rank=1),
        "timing/testing": Meaning("seconds/eval", rank=1),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "rollout/zero_variance_frac": "verl does not log it; filter_groups (DAPO) shows it as a growing timing_s/gen.",
        "rollout/repetition": "verl does not log it; set trainer.rollout_data_dir and look at the samples.",
        "mismatch/kl_k3": "set actor_rollout_ref.rollout.calculate_log_probs=True.",
        "reward/std": "verl logs critic/score/max and /min only.",
    }

    def __init__(self) -> None:
        super().__init__()
        self._prefix: tuple[bytes, Origin] = (_NO_PREFIX, NOWHERE)
        self._layouts = Layouts(self.name, b":", _BETWEEN)
        self._block = b""
        self._block_at: tuple[int, Segment] | None = None
        self._steps: list[tuple[int, int]] = []

    def scan(self, batch: Batch, log: Log) -> None:
        """Read the metric lines whose prefix is that of the one before, which nearly all are."""
        text = batch.text
        at = text.find(b"step:")
        self._learn_prefix(Line(text[text.rfind(b"\n", 0, at) + 1 : text.find(b"\n", at)]))
        prefix, origin = self._prefix
        begins, ends, numbers = batch.lines_beginning(prefix + b"step:")
        steps, num_digits = integers_at(text, begins + len(prefix) + len(b"step:"))
        counted = np.flatnonzero((num_digits > 0) & (num_digits <= _MOST_DIGITS))
        begins, ends, numbers, steps = begins[counted], ends[counted], numbers[counted], steps[counted]
        starts = begins + len(prefix) + len(b"step:") + num_digits[counted]
        added = self._layouts.add_all(text, starts, ends, log, lines=numbers, steps=steps, origin=origin)
        alone: list[int] = []
        for index in np.delete(np.arange(len(begins)), added).tolist():
            body = text[starts[index] : ends[index]]
            if body.startswith(_BETWEEN) and b"\r" not in body and b"\x1b" not in body and not body.endswith(_SUFFIXES):
                line, step = int(numbers[index]), int(steps[index])
                if self._layouts.add(body, len(_BETWEEN), log, line=line, step=step, origin=origin) is not None:
                    alone.append(index)
        read = np.sort(np.concatenate([added, np.array(alone, dtype=np.intp)]))
        self._steps += zip(numbers[read].tolist(), steps[read].tolist(), strict=True)
        batch.take_all(begins[read], ends[read])

    def _learn_prefix(self, line: Line) -> None:
        """Remember what stands before a metric line, if that is all that may vary."""
        first = line.segments[0] if line.segments else None
        if first is not None and first.time is None and len(line.segments) == 1 and _STEP.match(first.body):
            self._prefix = (line.raw[: line.raw.find(b"step:")], first.origin)

    def read(self, line: Line, log: Log) -> bool:
        """Read a metric line, a validation, a bar, or a step that was set."""
        understood = False
        for segment in line.segments:
            log.offset = segment.offset
            understood = self._read(segment, line.number, log) or understood
        self._learn_prefix(line)
        return understood

    def settle(self, log: Log) -> None:  # noqa: ARG002
        """Forget the steps of a batch but for the last."""
        del self._steps[:-1]

    def _step_before(self, number: int) -> int:
        """Return the step whose metrics stand before a line; 0 where there are none."""
        at = bisect_left(self._steps, (number, 0))
        return self._steps[at - 1][1] if at else 0

    def _read(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment."""
        body = segment.body
        if match := _STEP.match(body):
            step = int(match[1])
            insort(self._steps, (number, step))
            row = self._layouts.add(
                body,
                match.end(),
                log,
                line=number,
                step=step,
                time=segment.time,
                origin=segment.origin,
            )
            return row is not None
        if b"validation metrics" in body and (start := body.find(b"{")) >= 0:
            self._block, self._block_at = body[start:].rstrip().rstrip(b'"'), (number, segment)
            self.more_open = not is_closed(self._block)
            if not self.more_open:
                self._validated(log)
            return True
        if match := _RESUMED.search(body):
            log.add_event(self.name, "resume", line=number, step=int(match[1]), time=segment.time)
            return True
        if match := _NOT_FINITE.search(body):
            reason = f"grad_norm {match[2].decode('ascii', 'replace')}"
            log.add_event(
                self.name,
                "skipped_update",
                line=number,
                time=segment.time,
                origin=segment.origin,
                data={"role": "policy", "reason": reason, "rank": int(match[1])},
            )
            return True
        if body.startswith(b"Training Progress:") and (bar := read_bar(body)) is not None:
            log.add_tick(
                self.name,
                "Training Progress",
                bar.done,
                bar.total,
                line=number,
                time=segment.time,
                elapsed_s=bar.elapsed_s,
            )
            return True
        return False

    def more(self, line: Line, log: Log) -> bool:
        """Collect a dictionary of validation metrics that goes over several lines."""
        if self._block_at is None:
            self.more_open = False
            return False
        belonged = False
        for segment in line.segments:
            if segment.origin == self._block_at[1].origin:
                self._block += _unquoted(segment.body.strip())
                belonged = True
        if is_closed(self._block) or len(self._block) > _MOST_BLOCK_BYTES:
            self.more_open = False
            self._validated(log)
        return belonged

    def finish(self, log: Log) -> None:
        """Add validation metrics whose end is missing."""
        self._validated(log)

    def _validated(self, log: Log) -> None:
        """Add the validation metrics that were collected, as the last step's."""
        if self._block_at is None:
            return
        number, segment = self._block_at
        pairs = dict_pairs(self._block)
        log.add_pairs(
            self.name,
            pairs,
            line=number,
            step=self._step_before(number),
            time=segment.time,
            origin=segment.origin,
            axis="eval",
        )
        if segment.body.lstrip(b"\"'(").startswith(b"Final validation"):
            log.add_event(self.name, "finish", line=number, time=segment.time, origin=segment.origin)
        self._block, self._block_at = b"", None

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; validation sets have their names in their keys."""
        known = self.meanings.get(key)
        if known is not None:
            return known
        if match := _EVALUATED.match(key):
            return Meaning(f"eval/{match['set'].replace('/', '-')}/accuracy", rank=0 if match["k"] == "1" else 1)
        if match := _TEST_SCORE.match(key):
            return Meaning(f"eval/{match['set'].replace('/', '-')}/accuracy", rank=2)
        if key.startswith("actor/perf/"):
            return self.meanings.get(key.removeprefix("actor/"))
        return None


def _unquoted(piece: bytes) -> bytes:
    """Return what one of the quoted pieces holds into which pprint breaks a long text."""
    piece = piece.removesuffix(b")")
    return piece[1:-1] if len(piece) > 1 and piece[0] in b"'\"" and piece[-1] == piece[0] else piece
