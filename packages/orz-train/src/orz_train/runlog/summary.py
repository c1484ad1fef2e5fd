"""What is left to say when a run is over."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orz_train.runlog.history import History, mean
from orz_train.runlog.sparkline import sparkline
from orz_train.runlog.text import clock, number, shortened, signed
from orz_train.types import Prompt, Rollout, Score, StepReport

_FIRST, _LAST = 5, 10
_CURVE_WIDTH = 40
_PROMPT_WIDTH, _RESPONSE_WIDTH = 60, 200


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
    """The first and the newest answer of a run: to the first held-out prompt, else to the first prompt of a step.

    The first of its list, so nobody has picked it.
    """

    def __init__(self) -> None:
        self._held_out: list[Answer] = []
        self._trained: list[Answer] = []

    def add(self, report: StepReport) -> None:
        """Take the answers of a step."""
        if report.eval_samples:
            _keep(self._held_out, report.eval_samples, f"held out, after step {report.step}")
        if report.samples:
            _keep(self._trained, report.samples, f"sampled in step {report.step}")

    @property
    def pair(self) -> tuple[Answer, ...]:
        """Return the first answer and the newest; fewer where there are fewer."""
        return tuple(self._held_out if len(self._held_out) > 1 else self._trained)


def _keep(answers: list[Answer], samples: Sequence[Sample], when: str) -> None:
    first = next((sample for sample in samples if sample[1].group_index == 0), samples[0])
    answers[1:] = [Answer.of(first, when=when)]


def summary(history: History, *, title: str, folder: Path, answers: Sequence[Answer], ascii_only: bool = False) -> str:
    """Return a page of plain text: reward, evaluation, an answer before and after, where everything is.

    Args:
        history: of the run.
        title: how it ended: `quickstart finished`.
        folder: the run folder.
        answers: the first one and the last one, if there are any.
        ascii_only: for a stdout that can't show block characters.
    """
    parts = [
        [f"{title}: {history.last_step} of {history.num_steps} steps in {clock(sum(history.step_seconds(first=0)))}"],
        [*_reward(history, ascii_only=ascii_only), *_evaluations(history)],
        [line for label, answer in zip(("before", "after"), answers, strict=False) for line in _answer(label, answer)],
        list(_paths(history, folder)),
    ]
    return "\n" + "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _reward(history: History, *, ascii_only: bool) -> Iterator[str]:
    rewards = history.series("reward/mean")
    if not rewards:
        return
    if len(rewards) == 1:
        yield f"  reward      {number(rewards[0])}"
        yield "              mean of the only step"
        return
    half = len(rewards) // 2  # so that the two windows share no step
    first, last = rewards[: min(_FIRST, half)], rewards[-min(_LAST, half) :]
    yield f"  reward      {number(mean(first))} -> {number(mean(last))}  ({signed(mean(last) - mean(first))})"
    yield f"              {sparkline(rewards, _CURVE_WIDTH, ascii_only=ascii_only)}"
    counted = f"{len(first)} steps" if len(first) > 1 else "step"
    yield f"              mean of the first {counted}, of the last" + (f" {len(last)}" if len(last) > 1 else "")


def _evaluations(history: History) -> Iterator[str]:
    sets = sorted({name for accuracies in history.evaluations.values() for name in accuracies})
    for name in sets:
        values = {step: found[name] for step, found in sorted(history.evaluations.items()) if name in found}
        (first_step, first), (last_step, last) = next(iter(values.items())), list(values.items())[-1]
        yield f"  {'eval ' + name:<10}  {number(first)}" + (
            f" -> {number(last)}  ({signed(last - first)})" if len(values) > 1 else ""
        )
        yield f"              accuracy after step {first_step}" + (
            f", after step {last_step}" if len(values) > 1 else ""
        )


def _answer(label: str, answer: Answer) -> Iterator[str]:
    yield f"  {label:<10}  {shortened(answer.prompt, _PROMPT_WIDTH)}"
    yield f"              {shortened(answer.response, _RESPONSE_WIDTH)}"
    yield f"              reward {number(answer.reward)}, {answer.when}"


def _paths(history: History, folder: Path) -> Iterator[str]:
    yield f"  run folder  {folder}"
    if history.checkpoint:
        yield f"  checkpoint  {folder / history.checkpoint}"
    yield f"  look        orz monitor report {shlex.quote(str(folder))}"
    if history.checkpoint:
        yield f"  check       orz ckpt verify {shlex.quote(str(folder / history.checkpoint))}"
    if history.last_step < history.num_steps:
        config, run_dir = shlex.quote(str(folder / "config.yaml")), shlex.quote(str(folder))
        yield f"  go on       orz train {config} --run-dir {run_dir} --resume auto"
