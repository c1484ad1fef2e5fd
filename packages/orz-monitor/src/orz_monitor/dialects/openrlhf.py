"""OpenRLHF, old and new names: bars of micro-batches, and a dictionary a step behind `Global step 12: `.

Actor and critic have bars of one description; their keys tell them apart. The bars' keys begin with `bar/`, since
they are means of one process over micro-batches, and the dictionary's are those of the step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from orz_monitor.dialects.bars import clock_s
from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.blocks import DictBlock
from orz_monitor.dialects.numbering import entries_of, number_by_next, number_by_repetition
from orz_monitor.dialects.passes import Passes
from orz_monitor.log import Log, place
from orz_monitor.transport.lines import Line, Segment

_BAR: Final = b"Train epoch ["
_STEP: Final = re.compile(rb"Global step (?P<step>\d{1,15}): ?(?=\{)")
_EVALUATED: Final = re.compile(
    rb"Evaluation completed in (?P<clock>[\d:]{1,12})\S{0,10}, global_step (?P<step>\d{1,15}), eval_metrics: ?(?=\{)"
)
_EVALUATION_TIME: Final = b"evaluation time"
_PASS_AT_1: Final = re.compile(r"eval_(?P<set>.+)_pass1$")


class OpenRlhf(Dialect):
    """The console of OpenRLHF's PPO trainers."""

    name = "openrlhf"
    title = "OpenRLHF"
    gates = (_BAR, b"Global step ", b"Evaluation completed in ")
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "policy_loss": Meaning("policy/loss"),
        "bar/act_loss": Meaning("policy/loss", rank=1),
        "bar/pg": Meaning("policy/loss", rank=1),
        "kl": Meaning("policy/kl_ref"),
        "bar/kl": Meaning("policy/kl_ref", rank=1),
        "bar/k_coef": Meaning("policy/kl_coef"),
        "ppo_kl": Meaning("policy/kl_old", estimator="k1"),
        "entropy_loss": Meaning("policy/entropy"),
        "bar/ent_loss": Meaning("policy/entropy", rank=1),
        "ppo_clip_ratio": Meaning("policy/clip_frac"),
        "actor_grad_norm": Meaning("policy/grad_norm"),
        "bar/grad_norm": Meaning("policy/grad_norm", rank=1),
        "actor_lr": Meaning("policy/lr"),
        "bar/act_lr": Meaning("policy/lr", rank=1),
        "critic_loss": Meaning("critic/loss"),
        "bar/critic_loss": Meaning("critic/loss", rank=1),
        "bar/cri": Meaning("critic/loss", rank=1),
        "values": Meaning("critic/value_mean"),
        "bar/values": Meaning("critic/value_mean", rank=1),
        "bar/vals": Meaning("critic/value_mean", rank=1),
        "critic_grad_norm": Meaning("critic/grad_norm"),
        "bar/critic_grad_norm": Meaning("critic/grad_norm", rank=1),
        "critic_lr": Meaning("critic/lr"),
        "bar/critic_lr": Meaning("critic/lr", rank=1),
        "bar/cri_lr": Meaning("critic/lr", rank=1),
        "reward": Meaning("reward/mean"),
        "rollout/reward_mean": Meaning("reward/mean", rank=1),
        "bar/reward": Meaning("reward/mean", rank=2),
        "bar/rm": Meaning("reward/mean", rank=2),
        "rollout/reward_std": Meaning("reward/std"),
        "group_reward_std": Meaning("reward/group_std"),
        "return": Meaning("return/mean"),
        "bar/return": Meaning("return/mean", rank=1),
        "bar/ret": Meaning("return/mean", rank=1),
        "response_length": Meaning("rollout/response_tokens_mean"),
        "rollout/response_length_mean": Meaning("rollout/response_tokens_mean", rank=1),
        "bar/gen_len": Meaning("rollout/response_tokens_mean", rank=2),
        "bar/glen": Meaning("rollout/response_tokens_mean", rank=2),
        "total_length": Meaning("rollout/total_tokens_mean"),
        "bar/tot_len": Meaning("rollout/total_tokens_mean", rank=1),
        "bar/tlen": Meaning("rollout/total_tokens_mean", rank=1),
        "response_clip_ratio": Meaning("rollout/truncated_frac"),
        "rollout/truncated_rate": Meaning("rollout/truncated_frac", rank=1),
        "dynamic_filtering_pass_rate": Meaning("rollout/zero_variance_frac", scale=-1, offset=1),
        "vllm_kl": Meaning("mismatch/kl_k1", estimator="k1"),
        "timing/generation": Meaning("seconds/generate"),
        "timing/make_experience": Meaning("seconds/score"),
        "timing/ppo_train": Meaning("seconds/train_policy"),
        "timing/broadcast": Meaning("seconds/sync"),
        "timing/step_total": Meaning("seconds/total"),
        _EVALUATION_TIME.decode(): Meaning("seconds/eval"),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "mismatch/kl_k1": "give --algo.advantage.is_correction_enable.",
        "rollout/zero_variance_frac": "give --algo.dynamic_filtering_enable.",
        "critic/explained_var": "OpenRLHF does not log it.",
        "rollout/repetition": "OpenRLHF does not log it; look at the samples.",
    }

    def __init__(self) -> None:
        super().__init__()
        self._begin_passes()
        self._block = DictBlock()
        self._header: tuple[int, str, list[tuple[bytes, bytes]]] = (0, "", [])

    def read(self, line: Line, log: Log) -> bool:
        """Read bars, which are most of a log, from the raw line; dictionaries by its segments."""
        understood = False
        if _BAR in line.raw:
            for frame in line.raw.split(b"\r"):
                understood = self._read_bar(frame, line.number, log) or understood
        if b"Global step " in line.raw or b"Evaluation completed" in line.raw:
            for segment in line.segments:
                understood = self._read(segment, line.number, log) or understood
        return understood

    def _read_bar(self, frame: bytes, number: int, log: Log) -> bool:
        """Read a frame of a bar, which ORZ would call `Actor Train epoch` or `Critic Train epoch`."""
        at = frame.find(_BAR)
        if at < 0 or frame.endswith((b"Actor ", b"Critic "), 0, at):
            return False
        is_critic = b"critic_loss=" in frame and b"act_loss=" not in frame
        return (self._critic if is_critic else self._actor).read(frame, log, number)

    def _begin_passes(self) -> None:
        """Let the next frame of each bar begin a new pass."""
        self._actor = Passes(self.name, _BAR, b"bar/")
        self._critic = Passes(self.name, _BAR, b"bar/")

    def _read(self, segment: Segment, number: int, log: Log) -> bool:
        """Begin the dictionary of a step or of an evaluation."""
        if match := _STEP.search(segment.body):
            self._header = (int(match["step"]), "", [])
            self.settle(log)
            self._begin_passes()
        elif match := _EVALUATED.search(segment.body):
            took = str(clock_s(match["clock"])).encode()
            self._header = (int(match["step"]), "eval", [(_EVALUATION_TIME, took)])
        else:
            return False
        self._block.begin(segment.body[match.end() :], number, segment)
        self._close(log)
        return True

    def more(self, line: Line, log: Log) -> bool:
        """Collect a dictionary that goes over several lines."""
        belonged = self._block.take(line)
        self._close(log)
        return belonged

    def settle(self, log: Log) -> None:
        """Add the frames that were collected."""
        self._actor.settle(log)
        self._critic.settle(log)

    def finish(self, log: Log) -> None:
        """Add a dictionary whose end is missing."""
        self._add(log)

    def _close(self, log: Log) -> None:
        """Add the dictionary if it is complete, else ask for more lines."""
        self.more_open = not self._block.is_closed
        if self._block.is_closed:
            self._add(log)

    def _add(self, log: Log) -> None:
        """Add what was collected."""
        segment = self._block.segment
        if segment is None:
            return
        step, axis, extra = self._header
        log.add_pairs(
            self.name,
            self._block.pairs() + extra,
            line=self._block.line,
            step=step,
            axis=axis,
            time=segment.time,
            origin=segment.origin,
        )

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; evaluation sets have their names in their keys."""
        known = self.meanings.get(key)
        if known is None and (match := _PASS_AT_1.match(key)):
            return Meaning(f"eval/{match['set'].replace('/', '-')}/accuracy")
        return known

    def number(self, log: Log) -> None:
        """Give bars the step of the dictionary that follows; without dictionaries, count the passes."""
        in_order = sorted(entries_of(log, self.name), key=place)  # frames are added in batches
        waiting, last = number_by_next(in_order)
        number_by_repetition(waiting, 1 if last is None else last + 1)
