"""NeMo-RL: a header with the step, then blocks of bulleted lines.

`Training Results:`, `Timing:`, `Performance Metrics:` and `Validation Results:` begin the blocks. Keys of timings
begin with `timing/`, and those of validations with `validation/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.items import item_pairs
from orz_monitor.dialects.numbering import entries_of
from orz_monitor.log import Log, Row, Tick
from orz_monitor.plan import Plan
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import NOWHERE, Origin

_HEADER: Final = re.compile(rb"=+ (?P<what>Step|Epoch) (?P<done>\d{1,9})/(?P<total>\d{1,9}) =+")
_BULLET: Final = re.compile(
    rb"(?:\xe2\x80\xa2|-) (?P<key>[^:\s](?:[^:]{0,98}[^:\s])?): {1,4}(?P<value>[-+\dnNiI].{0,100})$"
)
_RESULTS: Final = b" Results:"


class NemoRl(Dialect):
    """The console of NeMo-RL's algorithms, and the keys of its loggers."""

    name = "nemo-rl"
    title = "NeMo-RL"
    gates = (b"== Step ", b"== Epoch ", _RESULTS)
    bar_of_steps = "Step"
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "Loss": Meaning("policy/total_loss"),
        "Avg Reward": Meaning("reward/mean"),
        "Avg Total Reward": Meaning("reward/mean", rank=1),
        # of the estimator that `loss_fn.reference_policy_kl_type` names, which is k3 in NeMo-RL's own recipes
        "Generation KL Error": Meaning("mismatch/kl_k3", estimator="k3", estimator_varies=True),
        "Mean Generation Length": Meaning("rollout/response_tokens_mean"),
        "Training Worker Idle Time Ratio": Meaning("idle/trainer_frac"),
        "E2E (Tokens/sec/gpu)": Meaning("tokens/per_second_per_device"),
        "Training Model Floating Point Utilization": Meaning("tokens/mfu"),
        "timing/Total step time": Meaning("seconds/total"),
        "timing/generation": Meaning("seconds/generate"),
        "timing/exposed_generation": Meaning("seconds/generate", rank=1),
        "timing/reward_calculation": Meaning("seconds/reward"),
        "timing/policy_and_reference_logprobs": Meaning("seconds/score"),
        "timing/policy_training": Meaning("seconds/train_policy"),
        "timing/value_training": Meaning("seconds/train_critic"),
        "timing/prepare_for_generation/total": Meaning("seconds/sync"),
        "timing/weight_sync": Meaning("seconds/sync", rank=1),
        "timing/checkpointing": Meaning("seconds/save"),
        "validation/Accuracy": Meaning("eval/validation/accuracy"),
        "validation/Average response length": Meaning("eval/validation/response_tokens_mean"),
        "validation/Samples processed": Meaning("eval/validation/samples"),
        "timing/Total validation time": Meaning("seconds/eval"),
        "train/loss": Meaning("policy/total_loss", rank=1),
        "train/reward": Meaning("reward/mean", rank=2),
        "train/grad_norm": Meaning("policy/grad_norm"),
        "train/lr": Meaning("policy/lr"),
        "train/kl_penalty": Meaning("policy/kl_ref", estimator="k3", estimator_varies=True),
        "train/approx_entropy": Meaning("policy/entropy", estimator="sampled"),
        "train/probs_ratio": Meaning("policy/ratio_mean"),
        "train/probs_ratio_min": Meaning("policy/ratio_min"),
        "train/probs_ratio_max": Meaning("policy/ratio_max"),
        "train/gen_kl_error": Meaning("mismatch/kl_k3", estimator="k3", rank=1, estimator_varies=True),
        "train/js_divergence_error": Meaning("mismatch/js"),
        "train/token_mult_prob_error": Meaning("mismatch/prob_ratio_error"),
        "train/sampling_importance_ratio": Meaning("correction/weight_mean"),
        "train/is_oob_ratio": Meaning("correction/clip_frac"),
        "train/mean_gen_tokens_per_sample": Meaning("rollout/response_tokens_mean", rank=1),
        "train/mean_prompt_length": Meaning("rollout/prompt_tokens_mean"),
        "validation/accuracy": Meaning("eval/validation/accuracy", rank=1),
        "validation/avg_length": Meaning("eval/validation/response_tokens_mean", rank=1),
        "timing/train/total_step_time": Meaning("seconds/total", rank=1),
        "timing/train/generation": Meaning("seconds/generate", rank=2),
        "timing/train/policy_and_reference_logprobs": Meaning("seconds/score", rank=1),
        "timing/train/policy_training": Meaning("seconds/train_policy", rank=1),
        "timing/train/prepare_for_generation/total": Meaning("seconds/sync", rank=2),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "policy/grad_norm": "NeMo-RL's console has it not; give its TensorBoard folder (logger.tensorboard_enabled).",
        "policy/entropy": "NeMo-RL's console has it not; its TensorBoard folder has train/approx_entropy.",
        "policy/kl_ref": "NeMo-RL's console has it not; its TensorBoard folder has train/kl_penalty.",
        "rollout/truncated_frac": "NeMo-RL logs it to TensorBoard only.",
    }

    def __init__(self) -> None:
        super().__init__()
        self._origin: Origin = NOWHERE
        self._prefix = b""
        self._axis = ""

    def read(self, line: Line, log: Log) -> bool:
        """Read the header of a step or an epoch, or the beginning of a block."""
        understood = False
        for segment in line.segments:
            if match := _HEADER.search(segment.body):
                log.add_tick(
                    self.name,
                    match["what"].decode(),
                    int(match["done"]),
                    int(match["total"]),
                    line=line.number,
                    time=segment.time,
                )
                understood = True
            elif _is_title(segment.body):
                self._origin, self.more_open = segment.origin, True
                self._open(segment.body)
                understood = True
        return understood

    def more(self, line: Line, log: Log) -> bool:
        """Read the bulleted lines of a block, which ends where the next step begins."""
        belonged = False
        for segment in line.segments:
            if segment.origin != self._origin:
                continue
            body = segment.body.strip()
            if _HEADER.search(body):
                self.more_open = False
                return False
            if match := _BULLET.match(body):
                belonged = self._add(match, segment, line.number, log) or belonged
            elif _is_title(body):
                self._open(body)
                belonged = True
        return belonged

    def _open(self, title: bytes) -> None:
        """Remember which block begins."""
        if title.rstrip().endswith(_RESULTS):
            is_validation = b"Validation" in title
            self._prefix, self._axis = (b"validation/", "eval") if is_validation else (b"", "")
        else:
            self._prefix = b"timing/" if b"Timing" in title else b""

    def _add(self, match: re.Match[bytes], segment: Segment, number: int, log: Log) -> bool:
        """Add the numbers of one line."""
        row = log.add_pairs(
            self.name,
            item_pairs(self._prefix + match["key"], match["value"]),
            line=number,
            axis=self._axis,
            time=segment.time,
            origin=segment.origin,
        )
        return row is not None

    def plan(self, log: Log) -> Plan | None:
        """Return what the headers say; of several epochs nothing: they name the steps of one, and not where it ends."""
        epochs = (entry for entry in reversed(log.entries) if isinstance(entry, Tick) and entry.name == "Epoch")
        epoch = next(epochs, None)
        return super().plan(log) if epoch is None or epoch.total == 1 else None

    def number(self, log: Log) -> None:
        """Give lines the step of the header before them; steps are counted anew in each epoch."""
        epoch, step = 1, 0
        for entry in entries_of(log, self.name):
            if isinstance(entry, Row):
                entry.step = step
            elif isinstance(entry, Tick) and entry.name == "Epoch":
                epoch = entry.done
            elif isinstance(entry, Tick):
                step = (epoch - 1) * (entry.total or 0) + entry.done
                entry.done = step


def _is_title(body: bytes) -> bool:
    """Tell whether a line begins a block."""
    body = body.rstrip()
    return body.endswith((_RESULTS, b"Timing:", b"Performance Metrics:")) and len(body) < 60  # noqa: PLR2004
