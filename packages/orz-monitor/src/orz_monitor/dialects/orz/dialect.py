"""Open-Reasoner-Zero: bars of micro-batches, a dictionary a step, timers, and the playground's own lines.

The bars show three digits of one micro-batch each; the dictionary is the step's mean in full. They are two series:
the bars' keys begin with `bar/`. Steps are numbered from 0, as in ORZ's own file names (`iter0_...`).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from orz_monitor.dialects.bars import read_bar
from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.dicts import dict_pairs
from orz_monitor.dialects.numbering import entries_of
from orz_monitor.dialects.orz.bars import bars_in
from orz_monitor.dialects.orz.episodes import EpisodeSteps
from orz_monitor.dialects.passes import Passes
from orz_monitor.log import Entry, Event, Log, Row, Tick
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, Segment

CRITIC_UPDATES: Final = 12
"""`critic_update_steps` of every shipped recipe."""
_EPISODE: Final = re.compile(rb"Episode \[(\d{1,6})/(\d{1,6})\]: ")
_EPISODE_NAME: Final = "Episode "
"""What the ticks of the bar of training steps are called, before the number of the episode."""
_TIMER: Final = re.compile(rb"(?P<what>[A-Z][\w ,]{3,100}), time cost: (?P<seconds>\d{1,9}\.\d{1,6})s")
_PAIR: Final = re.compile(rb"(?:^|, ?)(?P<key>[A-Za-z_][\w/@.-]{0,100}): (?P<value>[^,\s]{1,60})")
_DUMP: Final = re.compile(rb"/iter(\d{1,9})_replay_buffer\.jsonl")
_SETTING: Final = re.compile(r"(?P<key>[a-z]\w{1,60}) {2,}(?P<value>\S.{0,200})$")
_PHASES: Final = {
    "Generate sequences via vllm engines": "generate",
    "Generate sequences": "generate",
    "Calculate custom rewards": "reward",
    "Inference and calculate values, log probs, rewards, kl divergence": "score",
    "Critic model training": "train_critic",
    "Policy model training": "train_policy",
    "Broadcast actor weights to vllm engines": "sync",
    "Broadcast actor weights": "sync",
}
_TIMER_KEY: Final = "time/"


class Orz(Dialect):
    """The console of Open-Reasoner-Zero."""

    name = "orz"
    title = "Open-Reasoner-Zero"
    bulk = b"Train epoch ["
    gates: ClassVar[tuple[bytes, ...]] = (
        b"time cost: ",
        b"orz.ppo.trainer:",
        b"Episode [",
        b"eval_accuracy: ",
        b"avg_non_stop_count: ",
        b"- config key -",
    )
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "policy_loss": Meaning("policy/loss"),
        "bar/pg": Meaning("policy/loss", rank=1),
        "actor_lr": Meaning("policy/lr"),
        "bar/act_lr": Meaning("policy/lr", rank=1),
        "clip_ratio": Meaning("policy/clip_frac"),
        "ppo_clip_count": Meaning("policy/clip_frac", rank=1),  # what TensorBoard files call it: a share, no count
        "entropy": Meaning("policy/entropy"),
        "policy_entropy": Meaning("policy/entropy", rank=1),  # in TensorBoard files
        "bar/ent": Meaning("policy/entropy", rank=2),
        "kl": Meaning("policy/kl_ref", estimator="k3", estimator_varies=True),  # by use_kl_estimator_k3
        "avg_kl": Meaning("policy/kl_ref", estimator="k3", rank=1, estimator_varies=True),
        "bar/kl": Meaning("policy/kl_ref", estimator="k3", rank=2, estimator_varies=True),
        "avg_kl_max": Meaning("policy/kl_ref_max"),
        "policy_update_steps": Meaning("policy/updates"),
        "avg_custom_rewards": Meaning("reward/mean"),
        "grpo_raw_reward": Meaning("reward/mean", rank=-1),
        "avg_raw_rewards": Meaning("reward/mean", rank=1),
        "avg_pass_at_n": Meaning("reward/pass_at_n"),
        "avg_num_tokens": Meaning("rollout/response_tokens_mean"),
        "avg_response_length": Meaning("rollout/response_tokens_mean", rank=1),
        "response_length": Meaning("rollout/response_tokens_mean", rank=2),
        "bar/glen": Meaning("rollout/response_tokens_mean", rank=3),
        "total_length": Meaning("rollout/total_tokens_mean"),
        "bar/tlen": Meaning("rollout/total_tokens_mean", rank=1),
        "avg_non_stop_count": Meaning("rollout/truncated_frac"),
        "avg_repeat_score": Meaning("rollout/repetition"),
        # `critic_loss` of TensorBoard files is divided by the micro-batches of an update, as `bar/critic_loss` is; how
        # many they were stands on the bars alone, so that it can't be undone there.
        "bar/critic_loss": Meaning("critic/loss"),
        "bar/values": Meaning("critic/value_mean"),
        "bar/vals": Meaning("critic/value_mean", rank=1),
        "bar/critic_lr": Meaning("critic/lr"),
        "bar/cri_lr": Meaning("critic/lr", rank=1),
        "critic_update_steps": Meaning("critic/updates"),
        "time/step": Meaning("seconds/total"),
    }
    missing: ClassVar[Mapping[str, str]] = {
        "policy/grad_norm": "ORZ never logs it; return the norm of `strategy.optimizer_step` in ppo/actors.py.",
        "reward/std": "ORZ shows it as a TensorBoard histogram only.",
        "critic/explained_var": "ORZ never logs it; work it out from the dumped replay buffer.",
        "rollout/zero_variance_frac": "ORZ never logs it; count groups in `iterN_generation_results.json`.",
        "mismatch/logprob_abs_mean": "ORZ never asks vLLM for log-probs.",
    }

    first_step: ClassVar[int] = 0
    """The number of a run's first step."""
    eval_lag: ClassVar[int] = 0
    """Steps from the one that an evaluation is named after to the one in which it is printed."""

    def __init__(self) -> None:
        super().__init__()
        self._last = b""
        self._actor = Passes(self.name, b"Actor Train epoch [", b"bar/")
        self._critic = Passes(self.name, b"Critic Train epoch [", b"bar/")

    def scan(self, batch: Batch, log: Log) -> None:
        """Read the bars of micro-batches, which are most of a log, without looking at lines."""
        bars = bars_in(batch, self._last)
        if bars is None or not len(bars.postfixes):
            return
        self._last = bars.postfixes[-1]
        for passes, chosen in ((self._actor, bars.of_actor), (self._critic, ~bars.of_actor)):
            own = bars.only(chosen)
            passes.take_all(own.counters, own.postfixes, own.starts, batch.line_and_offset, log)

    def read_segment(self, segment: Segment, number: int, log: Log) -> bool:
        """Read one segment that is no bar of micro-batches."""
        body = segment.body
        if b"Episode [" in body and (match := _EPISODE.search(body)):
            return self._episode(body, match, number, log)
        if match := _TIMER.match(body):
            return self._timer(match, segment, number, log)
        if body.startswith(b"{'policy_loss'"):
            row = log.add_pairs(self.name, dict_pairs(body), line=number, time=segment.time)
            return row is not None
        if body.startswith((b"avg_", b"eval_accuracy")) or b"/accuracy: " in body:
            axis = "eval" if b"accuracy: " in body else ""
            pairs = [(match["key"], match["value"]) for match in _PAIR.finditer(body)]
            return log.add_pairs(self.name, pairs, line=number, time=segment.time, axis=axis) is not None
        return self._happened(segment, number, log)

    def _episode(self, body: bytes, match: re.Match[bytes], number: int, log: Log) -> bool:
        """Read the bar of training steps."""
        bar = read_bar(body, match.start())
        if bar is None or bar.total is None:
            return False
        name = f"{_EPISODE_NAME}{int(match[1])}"
        log.add_tick(self.name, name, bar.done, bar.total, line=number, elapsed_s=bar.elapsed_s)
        return True

    def _timer(self, match: re.Match[bytes], segment: Segment, number: int, log: Log) -> bool:
        """Read how long a phase took."""
        log.add_pairs(
            self.name,
            [(_TIMER_KEY.encode() + match["what"], match["seconds"])],
            line=number,
            time=segment.time,
        )
        return True

    def _happened(self, segment: Segment, number: int, log: Log) -> bool:
        """Read what the trainer says in words."""
        body = segment.body
        event, step = "", None
        if body.startswith(b"start generation"):
            event = "generation_start"
        elif body.startswith(b"None") and segment.place.startswith("orz.ppo.trainer:train:"):
            event = "step_end"
        elif body.startswith(b"dumping replay buffer") and (match := _DUMP.search(body)):
            event, step = "dump", int(match[1])
        elif body.startswith(b"Successfully save model weights"):
            event = "finish" if b"training done" in body else "checkpoint_saved"
        elif body.startswith(b"Successfully update ref model"):
            event = "ref_update"
        elif b"--- config key ---" in body:
            self.more_open = True
            event = "config_table"
        else:
            return False
        log.add_event(self.name, event, line=number, step=step, time=segment.time, origin=segment.origin)
        return True

    def settle(self, log: Log) -> None:
        """Read the frames that were collected."""
        self._critic.settle(log)
        self._actor.settle(log)

    def more(self, line: Line, log: Log) -> bool:
        """Read the table of settings that follows its header."""
        match = _SETTING.match(line.segments[-1].text.strip()) if line.segments else None
        if match is None:
            self.more_open = False
            return False
        log.add_event(
            self.name, "config", line=line.number, data={"key": match["key"], "value": match["value"].strip()}
        )
        return True

    def meaning(self, key: str) -> Meaning | None:
        """Return what a raw key is; timers and evaluations have their names in their keys."""
        known = self.meanings.get(key)
        if known is not None:
            return known
        if key.startswith(_TIMER_KEY):
            phase = _PHASES.get(key.removeprefix(_TIMER_KEY))
            return Meaning(f"seconds/{phase}") if phase else None
        parts = key.removeprefix("evals/").split("/")
        if len(parts) == 2 and parts[1] == "accuracy":  # noqa: PLR2004 - set and word
            return Meaning(f"eval/{parts[0]}/accuracy")
        return None

    def number(self, log: Log) -> None:
        """Count steps by their ends, put right by the episode's bar and the names of dumped files."""
        entries = entries_of(log, self.name)
        self._undo_division(entries)
        step, open_rows, last_tick, episodes = self.first_step, list[Row](), None, EpisodeSteps()
        for entry in entries:
            if isinstance(entry, Row):
                entry.step = step if not entry.axis else max(step - self.eval_lag, 0)
                open_rows.append(entry)
                if "policy_loss" in entry.keys:
                    step, open_rows = step + 1, []
            elif isinstance(entry, Tick):
                episode = int(entry.name.removeprefix(_EPISODE_NAME))
                coming = episodes.done(episode, entry.done, entry.total or 0) + self.first_step
                last_tick = self._step_time(last_tick, entry, coming - 1, log)
                if coming != step:
                    step, open_rows = coming, []
            elif entry.event == "step_end":
                step, open_rows = step + 1, []
            elif entry.event == "dump" and entry.step is not None:
                for row in open_rows:
                    row.step = entry.step
                step = entry.step
            elif entry.step is None:
                entry.step = max(step - 1, self.first_step)

    def _undo_division(self, entries: Sequence[Entry]) -> None:
        """Multiply the critic's loss by the micro-batches of an update, by which ORZ divides it before it logs."""
        updates = CRITIC_UPDATES
        for entry in entries:
            if isinstance(entry, Event) and entry.data.get("key") == "critic_update_steps":
                text = str(entry.data.get("value"))
                updates = int(text) if text.isdigit() and int(text) else updates
            elif isinstance(entry, Row) and entry.bar is not None and "bar/critic_loss" in entry.keys:
                total = entry.bar[2] or 0
                entry.values[entry.keys.index("bar/critic_loss")] *= max(total // updates, 1)

    def _step_time(self, before: Tick | None, tick: Tick, step: int, log: Log) -> Tick:
        """Add how long the last step took by the bar's clock; the bar's frames are few."""
        if before is None or before.name != tick.name or tick.elapsed_s is None or before.elapsed_s is None:
            return tick
        if log.votes["openrlhf"] > log.votes[self.name]:
            return tick  # its bar of episodes has the same name and counts prompts
        if tick.done == before.done + 1:
            row = log.add_values(
                self.name,
                ("time/step",),
                array("d", [tick.elapsed_s - before.elapsed_s]),
                line=tick.line,
                step=step,
            )
            row.file, row.offset = tick.file, tick.offset
        return tick
