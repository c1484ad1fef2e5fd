"""TRL and transformers: `{'loss': 0.0187, 'grad_norm': 0.03, ..., 'epoch': 0.02}`, quoted since transformers 5.

The dictionary has no step; the bar before it on the same line has. In a notebook the same values are a table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Final

from orz_monitor.dialects.bars import clock_s
from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.dicts import Found, dicts_of
from orz_monitor.dialects.notebook_table import NotebookTable
from orz_monitor.dialects.numbering import entries_of
from orz_monitor.log import Log, Row
from orz_monitor.transport.lines import Line, Segment

_FRAME: Final = re.compile(rb"(?P<done>\d{1,12})/(?P<total>\d{1,12}) \[(?P<elapsed>[\d:]{4,12})<")
_DICTIONARY: Final = re.compile(rb"\{['\"][A-Za-z][\w/ .()@+-]{0,100}['\"]: ")
_REWARD_PART: Final = re.compile(r"rewards/(?P<part>[^/]+)(?:/mean)?$")
_EVALUATED: Final = re.compile(
    r"eval_(?:(?P<set>(?!rewards/)[^/]+)_)?"
    r"(?:(?P<what>reward|completions/(?:mean_length|clipped_ratio))|rewards/(?P<part>[^/]+)/mean)$"
)
_EVALUATIONS: Final = {
    "reward": "accuracy",
    "completions/mean_length": "response_tokens_mean",
    "completions/clipped_ratio": "truncated_frac",
}
_HEADING: Final = b"Training Loss"
"""Of the second column of a notebook's table."""
_LAST_FRAMES_BYTES: Final = 4096
_LONGEST_HEAD: Final = 500
_NAMED: Final = re.compile(rb"(?P<name>[^\s|]{1,40}): {1,4}\d{1,3}%\|[^|\r\n]{0,400}\| ?$")
"""What stands before the counter of a bar that has a name."""
_OF_MS_SWIFT: Final = b"Train"


class Trl(Dialect):
    """The console of TRL's trainers and of transformers' Trainer."""

    name = "trl"
    title = "TRL"
    has_whole_steps = True
    bar_of_steps = "steps"
    gates: ClassVar[tuple[bytes, ...]] = (
        b"learning_rate': ",
        b"{'train_runtime': ",
        b"'eval_runtime': ",
        b"'objective/kl': ",
        _HEADING,
    )
    longest_block = 1 << 20
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "loss": Meaning("policy/total_loss"),
        "Training Loss": Meaning("policy/total_loss"),
        "policy_loss": Meaning("policy/loss"),
        "loss/policy_avg": Meaning("policy/loss", rank=1),
        "kl": Meaning("policy/kl_ref", estimator="k3", estimator_varies=True),  # GRPO's; RLOO's is k1
        "objective/kl": Meaning("policy/kl_ref_seq", estimator="k1"),
        "policy/approxkl_avg": Meaning("policy/kl_old", estimator="k2"),
        "entropy": Meaning("policy/entropy"),
        "policy/entropy_avg": Meaning("policy/entropy", rank=1),
        "objective/entropy": Meaning("policy/entropy_seq"),
        "clip_ratio/region_mean": Meaning("policy/clip_frac"),
        "clip_ratio": Meaning("policy/clip_frac", rank=1),
        "policy/clipfrac_avg": Meaning("policy/clip_frac", rank=2),
        "cispo_clip_ratio": Meaning("policy/clip_frac", rank=2),
        "clip_ratio/low_mean": Meaning("policy/clip_frac_low"),
        "clip_ratio/high_mean": Meaning("policy/clip_frac_high"),
        "val/ratio": Meaning("policy/ratio_mean"),
        "grad_norm": Meaning("policy/grad_norm"),
        "learning_rate": Meaning("policy/lr"),
        "lr": Meaning("policy/lr", rank=1),
        "reward": Meaning("reward/mean"),
        "objective/scores": Meaning("reward/mean", rank=1),
        "objective/rlhf_reward": Meaning("return/mean"),
        "reward_std": Meaning("reward/std"),
        "frac_reward_zero_std": Meaning("rollout/zero_variance_frac"),
        "completions/mean_length": Meaning("rollout/response_tokens_mean"),
        "completion_length": Meaning("rollout/response_tokens_mean", rank=1),
        "completions/max_length": Meaning("rollout/response_tokens_max"),
        "completions/clipped_ratio": Meaning("rollout/truncated_frac"),
        "loss/value_avg": Meaning("critic/loss"),
        "val/clipfrac_avg": Meaning("critic/clip_frac"),
        "sampling/sampling_logp_difference/mean": Meaning("mismatch/logprob_abs_mean"),
        "sampling/sampling_logp_difference/max": Meaning("mismatch/logprob_abs_max"),
        "sampling/importance_sampling_ratio/mean": Meaning("correction/weight_mean"),
        "sampling/importance_sampling_ratio/max": Meaning("correction/weight_max"),
        "epoch": Meaning("data/epoch"),
        "step_time": Meaning("seconds/total"),
        "forward_time_s": Meaning("seconds/train_policy"),
        "weight_sync_time_s": Meaning("seconds/sync"),
        "training_tok/s": Meaning("tokens/per_second"),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "policy/kl_ref": "GRPOConfig(beta=0.001) or more: without a KL coefficient TRL loads no reference.",
        "mismatch/logprob_abs_mean": "GRPOConfig(use_vllm=True, vllm_importance_sampling_correction=True).",
        "rollout/repetition": "GRPOConfig(log_completions=True) shows samples to look at.",
        "critic/explained_var": "TRL does not log it.",
    }

    def __init__(self) -> None:
        super().__init__()
        self._table: NotebookTable | None = None

    def read(self, line: Line, log: Log) -> bool:
        """Read the dictionaries of a line, or the heading of a notebook's table."""
        if table := NotebookTable.of_heading(line.segments[-1].body):
            self._table, self.more_open = table, True
            return True
        understood = False
        frame = _unused_frame(line.before[-_LAST_FRAMES_BYTES:])
        for segment in line.segments:
            end = 0
            for found in dicts_of(segment.body, _DICTIONARY):
                frame = last_frame(segment.body[end : found.start]) or frame
                end = found.end
                if self._is_ours(segment.body[found.start : end]):
                    log.offset = segment.offset + found.start
                    understood = self._add(found, frame, segment, line.number, log) or understood
                    frame = None
                    log.files[-1].num_missed_lines += end < len(segment.body) and segment.body[end - 1 : end] != b"}"
            frame = last_frame(segment.body[end:]) or frame
        return understood

    def more(self, line: Line, log: Log) -> bool:
        """Read a row of a notebook's table; what is none ends it."""
        segment = line.segments[-1] if line.segments else Segment(body=b"")
        if self._table is not None and self._table.is_rule(segment.body):
            return True
        row = self._table.row(segment.body) if self._table is not None else None
        self.more_open = row is not None
        if row is None:
            return False
        step, pairs = row
        log.add_pairs(self.name, pairs, line=line.number, step=step, time=segment.time, origin=segment.origin)
        return True

    def _is_ours(self, text: bytes) -> bool:
        """Tell whether a dictionary is one of metrics; beside those of other things may stand on a line."""
        return any(gate.lstrip(b"{") in text for gate in self.gates)

    def _add(self, found: Found, frame: re.Match[bytes] | None, segment: Segment, number: int, log: Log) -> bool:
        """Add a dictionary, with the step of the last frame of a bar before it."""
        keys = {key for key, _ in found.pairs}
        axis = "eval" if any(key.startswith(b"eval_") for key in keys) else ""
        if b"train_runtime" in keys:
            axis = "summary"
        if frame is not None:
            log.add_tick(
                self.name,
                axis or self.bar_of_steps,
                int(frame["done"]),
                int(frame["total"]),
                line=number,
                time=segment.time,
                elapsed_s=clock_s(frame["elapsed"]),
            )
        row = log.add_pairs(
            self.name,
            found.pairs,
            line=number,
            step=int(frame["done"]) if frame is not None else None,
            axis=axis,
            time=segment.time,
            origin=segment.origin,
        )
        if b"train_runtime" in keys:
            log.add_event(self.name, "finish", line=number, time=segment.time, origin=segment.origin)
        return row is not None

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; reward functions and evaluation sets have their names in their keys."""
        known = self.meanings.get(key)
        if known is None and (match := _REWARD_PART.match(key)):
            return Meaning(f"reward/part/{match['part']}")
        if known is None and (match := _EVALUATED.match(key)):
            what = f"part/{match['part']}" if match["part"] else _EVALUATIONS[match["what"]]
            return Meaning(f"eval/{match['set'] or 'validation'}/{what}")
        return known

    def number(self, log: Log) -> None:
        """Count on from the last known step, by the interval from row to row between those that are known."""
        entries = entries_of(log, self.name)
        rows = [entry for entry in entries if isinstance(entry, Row) and not entry.axis]
        known = [(index, row.step) for index, row in enumerate(rows) if row.step is not None]
        gaps = Counter(
            (later - sooner) // (index - before)
            for (before, sooner), (index, later) in pairwise(known)
            if later > sooner and (later - sooner) % (index - before) == 0
        )
        interval = gaps.most_common(1)[0][0] if gaps else 1
        step = max(known[0][1] - interval * (known[0][0] + 1), 0) if known else 0
        for entry in entries:
            if not isinstance(entry, Row):
                continue
            if entry.step is None:
                entry.step = step + (interval if not entry.axis else 0)
            step = entry.step


def _unused_frame(text: bytes) -> re.Match[bytes] | None:
    """Find the last frame of a bar on the line before, unless a dictionary behind it has its step."""
    frame = last_frame(text)
    return frame if frame is not None and not _DICTIONARY.search(text, frame.end()) else None


def last_frame(text: bytes) -> re.Match[bytes] | None:
    """Find the last frame of a bar."""
    found = None
    for frame in _FRAME.finditer(text, max(len(text) - _LAST_FRAMES_BYTES, 0)):
        if not _is_of_others(text[max(frame.start() - _LONGEST_HEAD, 0) : frame.start()]):
            found = frame
    return found


def _is_of_others(head: bytes) -> bool:
    """Tell whether a bar has a name, as those of generation and of loading have: the trainer's has none."""
    named = _NAMED.search(head)
    return named is not None and named["name"] != _OF_MS_SWIFT
