from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orz_monitor.records import EventRecord, StepRecord
from orz_train.runlog import summary as page
from orz_train.runlog.history import History
from orz_train.runlog.summary import Answer, Answers, Sample
from orz_train.types import Prompt, Rollout, Score, StepReport

pytestmark = pytest.mark.unit

MakeSample = Callable[..., tuple[Prompt, Rollout, Score]]


def history_of(rewards: list[float], num_steps: int) -> History:
    history = History(num_steps)
    for step, reward in enumerate(rewards, start=1):
        history.add(StepRecord(step=step, time=0.0, metrics={"reward/mean": reward}, seconds={"total": 2.0}))
    return history


def summary(history: History, *, title: str, folder: Path, answers: Sequence[Answer], ascii_only: bool = False) -> str:
    """Return the page without its styles."""
    log = folder / "console.log"
    return page.summary(history, title=title, folder=folder, log=log, answers=answers, ascii_only=ascii_only).plain


def test_a_summary_tells_the_whole_run(make_sample: MakeSample, tmp_path: Path) -> None:
    """First five and last ten rewards, evaluation from first to last, an answer before and after, the paths."""
    folder = tmp_path / "tiny 1"
    (folder / "checkpoints" / "step_000020").mkdir(parents=True)
    history = history_of([0.1] * 5 + [0.5] * 5 + [0.9] * 10, 20)
    for step, accuracy in ((0, 0.25), (10, 0.5), (20, 0.75)):
        history.add(
            EventRecord(event="evaluation", time=0.0, step=step, data={"metrics": {"eval/sums/accuracy": accuracy}})
        )
    history.add(EventRecord(event="checkpoint_saved", time=0.0, step=20, data={"path": "checkpoints/step_000020"}))
    text = summary(
        history,
        title="tiny finished",
        folder=folder,
        answers=[
            Answer.of(make_sample(text="The sum\nis \x1b[31m7", reward=0.0), when="sampled in step 1"),
            Answer.of(make_sample(text="7", reward=1.0), when="sampled in step 20"),
        ],
    )
    assert (
        f"""
tiny finished: 20 of 20 steps in 0:40

  reward      0.100 -> 0.900  (+0.800)
              ▁▁▁▁▁▅▅▅▅▅██████████
              mean of the first 5 steps, of the last 10
  eval sums   0.250 -> 0.750  (+0.500)
              accuracy after step 0, after step 20

  before      3+4=
              The sum\\nis \\x1b[31m7
              reward 0, sampled in step 1
  after       3+4=
              7
              reward 1, sampled in step 20

  run folder  {folder}
  checkpoint  {folder}/checkpoints/step_000020
  log         {folder}/console.log
  look        orz monitor report '{folder}'
  check       orz ckpt verify '{folder}/checkpoints/step_000020'
"""
    ) == text


def test_a_checkpoint_that_is_gone() -> None:
    """It was moved away, or its disk is no longer mounted: the last lines name no command that would fail."""
    history = history_of([0.5, 0.5], 2)
    history.add(EventRecord(event="checkpoint_saved", time=0.0, step=2, data={"path": "checkpoints/step_000002"}))
    text = summary(history, title="tiny finished", folder=Path("/runs/tiny"), answers=[])
    assert "checkpoint  /runs/tiny/checkpoints/step_000002 was saved, and is not there now\n" in text
    assert text.endswith("look        orz monitor report /runs/tiny\n  find        orz ckpt locate /runs/tiny\n")


def test_rewards_that_are_not_finite_are_shown_as_they_are() -> None:
    """A summary never fails where the run did not."""
    history = history_of([math.inf, -math.inf, 0.5], 3)
    text = summary(history, title="tiny finished", folder=Path("/runs/tiny"), answers=[])
    assert "reward      inf -> 0.500  (-inf)\n              xx▁\n" in text


@pytest.mark.parametrize(
    ("rewards", "values", "windows"),
    [
        ([0.25], "0.250", "mean of the only step"),
        ([0.25, 0.75], "0.250 -> 0.750  (+0.500)", "mean of the first step, of the last"),
        ([0.25, 0.5, 0.75], "0.250 -> 0.750  (+0.500)", "mean of the first step, of the last"),
        ([0.25] * 2 + [0.75] * 2, "0.250 -> 0.750  (+0.500)", "mean of the first 2 steps, of the last 2"),
        ([0.25] * 4 + [0.75] * 4, "0.250 -> 0.750  (+0.500)", "mean of the first 4 steps, of the last 4"),
        ([0.25] * 7 + [0.75] * 7, "0.250 -> 0.750  (+0.500)", "mean of the first 5 steps, of the last 7"),
        ([0.25] * 9 + [0.75] * 10, "0.250 -> 0.750  (+0.500)", "mean of the first 5 steps, of the last 9"),
        ([0.25] * 40 + [0.75] * 40, "0.250 -> 0.750  (+0.500)", "mean of the first 5 steps, of the last 10"),
    ],
)
def test_first_and_last_share_no_step(rewards: list[float], values: str, windows: str) -> None:
    """Overlapping windows would flatten what a short run has learned; the counts are the real ones."""
    text = summary(history_of(rewards, len(rewards)), title="tiny finished", folder=Path("/runs/tiny"), answers=[])
    lines = [line.strip() for line in text.splitlines()]
    assert f"reward      {values}" in lines
    assert windows in lines


def test_a_run_that_stopped_early_says_how_to_go_on() -> None:
    """With the resolved configuration, so that no argument is forgotten; nothing unknown is made up."""
    assert (
        """
tiny interrupted: 2 of 20 steps in 0:04

  reward      0.250 -> 0.250  (+0)
              __
              mean of the first step, of the last

  run folder  /runs/tiny
  log         /runs/tiny/console.log
  look        orz monitor report /runs/tiny
  go on       orz train /runs/tiny/config.yaml --run-dir /runs/tiny --resume auto
"""
    ) == summary(
        history_of([0.25, 0.25], 20),
        title="tiny interrupted",
        folder=Path("/runs/tiny"),
        answers=[],
        ascii_only=True,
    )


def graded(sample: Sample, reward: float) -> Sample:
    """Give a sample another reward."""
    prompt, rollout, score = sample
    return prompt, rollout, replace(score, reward=reward)


def test_answers_to_a_held_out_prompt_are_compared(
    make_report: Callable[..., StepReport], make_sample: MakeSample
) -> None:
    """Once two evaluations are there: the first prompt whose reward rose, and of how many; else a step's first."""
    answers = Answers()
    assert () == answers.pair
    first = [graded(make_sample(text=f"{name} 0"), reward) for name, reward in (("a", 1.0), ("b", 0.0), ("c", 0.0))]
    answers.add(replace(make_report(0), eval_samples=first))
    answers.add(make_report(1, samples=[make_sample(text="trained 1")]))
    assert ["trained 1"] == [answer.response for answer in answers.pair]
    answers.add(make_report(2, samples=[make_sample(text="trained 2")]))
    answers.add(make_report(3, samples=[make_sample(text="trained 3")]))
    assert ["trained 1", "trained 3"] == [answer.response for answer in answers.pair]
    last = [graded(make_sample(text=f"{name} 4"), 1.0) for name in ("a", "b", "c")]
    answers.add(replace(make_report(4), eval_samples=last))
    assert [
        ("b 0", "held out, after step 0"),
        ("b 4", "held out, after step 4; the reward of 2 of 3 such answers rose, this is the first"),
    ] == [(answer.response, answer.when) for answer in answers.pair]
    answers.add(replace(make_report(5), eval_samples=first))
    assert [("a 0", "held out, after step 0"), ("a 0", "held out, after step 5")] == [
        (answer.response, answer.when) for answer in answers.pair
    ], "none rose: the first"


def test_the_problem_at_the_end_of_a_template_is_shown(make_sample: MakeSample) -> None:
    """Of a prompt of many hundred characters both ends are kept, the problem among them."""
    prompt, rollout, score = make_sample(text="82")
    prompt = replace(prompt, text="A conversation. " * 30 + "This is the problem:\nWhat is 37+45?\nAssistant: <think>")
    text = summary(
        history_of([0.5], 1),
        title="tiny finished",
        folder=Path("/runs/tiny"),
        answers=[Answer.of((prompt, rollout, score), when="sampled in step 1")],
    )
    assert "\\nWhat is 37+45?\\nAssistant: <think>\n" in text
    assert "  before      A conversation. " in text


@pytest.mark.parametrize(("last", "style"), [(0.9, "bold green"), (0.1, "bold yellow"), (0.5, "bold yellow")])
def test_a_reward_that_has_not_risen_stands_out(last: float, style: str) -> None:
    """Green is for a gain alone."""
    text = page.summary(
        history_of([0.5, last], 2), title="tiny finished", folder=Path("r"), log=Path("r/console.log"), answers=[]
    )
    (found,) = (span.style for span in text.spans if text.plain[span.start : span.end] in {"+0.400", "-0.400", "+0"})
    assert style == found
