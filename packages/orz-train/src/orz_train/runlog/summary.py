"""What is left to say when a run is over."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.text import Text

from orz_train.runlog.history import History, mean
from orz_train.runlog.sparkline import sparkline
from orz_train.runlog.text import clock, number, shortened, signed
from orz_train.types import Prompt, Rollout, Score, StepReport

_FIRST, _LAST = 5, 10
_CURVE_WIDTH = 40
_ANSWER_WIDTH = 200
"""Characters of a prompt, and of a response: enough to see the problem at the end of a template."""
_LABEL_WIDTH = 10


Sample = tuple[Prompt, Rollout, Score]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What people read of one sampled response."""

    when: str
    prompt: str
    response: str
    reward: float

    @classmethod
    def of(cls, sample: Sample, *, when: str) -> Answer:
        """Keep what people read of a sample."""
        prompt, rollout, score = sample
        return cls(when=when, prompt=prompt.text, response=rollout.text, reward=score.reward)


class Answers:
    """Two answers to one held-out prompt, from the run's beginning and end: to the first whose reward rose.

    How many did is said beside it. Where none did, it is the first prompt; without evaluations, the first of a step.
    """

    def __init__(self) -> None:
        self._held_out: list[list[Answer]] = []
        self._trained: list[list[Answer]] = []

    def add(self, report: StepReport) -> None:
        """Take the answers of a step."""
        if report.eval_samples:
            when = f"held out, after step {report.step}"
            self._held_out[1:] = [[Answer.of(sample, when=when) for sample in report.eval_samples]]
        if report.samples:
            first = next((sample for sample in report.samples if sample[1].group_index == 0), report.samples[0])
            self._trained[1:] = [[Answer.of(first, when=f"sampled in step {report.step}")]]

    @property
    def pair(self) -> tuple[Answer, ...]:
        """Return the first answer and the newest; fewer where there are fewer."""
        if len(self._held_out) < 2:  # noqa: PLR2004  # a beginning and an end
            return tuple(answers[0] for answers in self._trained)
        pairs = list(zip(*self._held_out, strict=False))
        risen = [(before, after) for before, after in pairs if after.reward > before.reward]
        before, after = (risen or pairs)[0]
        how_many = f"; the reward of {len(risen)} of {len(pairs)} such answers rose, this is the first" if risen else ""
        return before, replace(after, when=after.when + how_many)


def summary(
    history: History, *, title: str, folder: Path, log: Path, answers: Sequence[Answer], ascii_only: bool = False
) -> Text:
    """Return the last page of a run: reward, evaluation, an answer before and after, where everything is.

    Its styles show on a terminal; elsewhere it is plain text.

    Args:
        history: of the run.
        title: how it ended: `quickstart finished`.
        folder: the run folder.
        log: the log for people.
        answers: the first one and the last one, if there are any.
        ascii_only: for a stdout that can't show block characters.
    """
    seconds = sum(history.step_seconds(first=0))
    stand = f": {history.last_step} of {history.num_steps} steps in {clock(seconds)}"
    parts = [
        [Text.assemble((title, "bold cyan"), stand)],
        [*_reward(history, ascii_only=ascii_only), *_evaluations(history)],
        [line for label, answer in zip(("before", "after"), answers, strict=False) for line in _answer(label, answer)],
        list(_paths(history, folder, log)),
    ]
    blocks = [Text("\n").join(lines) for lines in parts if lines]
    return Text.assemble("\n", Text("\n\n").join(blocks), "\n")


def _line(label: str, *pieces: str | Text | tuple[str, str]) -> Text:
    """Write a line with a label; without one it goes on with the line before."""
    return Text.assemble((f"  {label:<{_LABEL_WIDTH}}  ", "dim"), *pieces)


def _change(first: float, last: float) -> Text:
    """Write where a number began, where it ended, and the difference; higher is better."""
    difference = last - first
    style = "bold green" if difference > 0 else "bold yellow"
    return Text.assemble(f"{number(first)} -> ", (number(last), "bold"), "  (", (signed(difference), style), ")")


def _reward(history: History, *, ascii_only: bool) -> Iterator[Text]:
    rewards = history.series("reward/mean")
    if not rewards:
        return
    if len(rewards) == 1:
        yield _line("reward", number(rewards[0]))
        yield _line("", ("mean of the only step", "dim"))
        return
    half = len(rewards) // 2  # so that the two windows share no step
    first, last = rewards[: min(_FIRST, half)], rewards[-min(_LAST, half) :]
    yield _line("reward", _change(mean(first), mean(last)))
    yield _line("", (sparkline(rewards, _CURVE_WIDTH, ascii_only=ascii_only), "cyan"))
    counted = f"{len(first)} steps" if len(first) > 1 else "step"
    windows = f"mean of the first {counted}, of the last" + (f" {len(last)}" if len(last) > 1 else "")
    yield _line("", (windows, "dim"))


def _evaluations(history: History) -> Iterator[Text]:
    sets = sorted({name for accuracies in history.evaluations.values() for name in accuracies})
    for name in sets:
        values = {step: found[name] for step, found in sorted(history.evaluations.items()) if name in found}
        (first_step, first), (last_step, last) = next(iter(values.items())), list(values.items())[-1]
        several = len(values) > 1
        yield _line(f"eval {name}", _change(first, last) if several else number(first))
        yield _line("", (f"accuracy after step {first_step}" + (f", after step {last_step}" * several), "dim"))


def _answer(label: str, answer: Answer) -> Iterator[Text]:
    yield _line(label, (shortened(answer.prompt, _ANSWER_WIDTH), "italic"))
    yield _line("", shortened(answer.response, _ANSWER_WIDTH))
    yield _line("", ("reward ", "dim"), (number(answer.reward), "bold"), (f", {answer.when}", "dim"))


def _paths(history: History, folder: Path, log: Path) -> Iterator[Text]:
    checkpoint = folder / history.checkpoint if history.checkpoint else None
    gone = checkpoint is not None and not os.path.lexists(checkpoint)
    yield _line("run folder", str(folder))
    if checkpoint:
        yield _line("checkpoint", f"{checkpoint} was saved, and is not there now" if gone else str(checkpoint))
    yield _line("log", str(log))
    yield _line("look", f"orz monitor report {shlex.quote(str(folder))}")
    if gone:
        yield _line("find", f"orz ckpt locate {shlex.quote(str(folder))}")
    elif checkpoint:
        yield _line("check", f"orz ckpt verify {shlex.quote(str(checkpoint))}")
    if history.last_step < history.num_steps:
        config, run_dir = shlex.quote(str(folder / "config.yaml")), shlex.quote(str(folder))
        yield _line("go on", f"orz train {config} --run-dir {run_dir} --resume auto")
