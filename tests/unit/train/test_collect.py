"""Waiting for scores."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from orz_train import collect
from orz_train.collect import Collector
from orz_train.ports import Sampling
from orz_train.stopwatch import Stopwatch
from orz_train.testing import MemorySink
from orz_train.types import FinishReason, Prompt, Rollout, Score

pytestmark = pytest.mark.unit

SAMPLING = Sampling(
    max_tokens=1, temperature=1.0, top_p=1.0, top_k=0, stop=(), stop_token_ids=(), num_samples=1, seed=0
)
PROMPT = Prompt(prompt_id="p", text="", token_ids=(1,), answer="")
ROLLOUT = Rollout(
    rollout_id="1/0/0",
    prompt_id="p",
    group_index=0,
    token_ids=(1, 2),
    prompt_len=1,
    sampler_logprobs=(-0.5,),
    finish=FinishReason.STOP,
    policy_version=0,
    text="",
)


class Slow:
    """Samples one response, whose score comes when it is set."""

    def __init__(self) -> None:
        self.future: Future[Score] = Future()

    def generate(self, prompts: object, sampling: object, *, step: int) -> list[Rollout]:
        return [ROLLOUT]

    def submit(self, prompt: object, rollout: object) -> Future[Score]:
        return self.future


def make(slow: Slow, check: object) -> Collector:
    return Collector(
        prompts=[],  # type: ignore[arg-type]  # not asked
        generator=slow,  # type: ignore[arg-type]  # a list is as good as an iterator
        rewards=slow,  # type: ignore[arg-type]  # nothing is closed
        sampling=SAMPLING,
        sink=MemorySink(),
        clock=Stopwatch(),
        max_unscored_steps=1,
        check=check,  # type: ignore[arg-type]  # a function of a test
    )


def test_a_dead_engine_ends_the_wait_for_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward may take as long as it likes, but the workers are looked at meanwhile."""
    monkeypatch.setattr(collect, "CHECK_EVERY_S", 0.01)

    def check() -> None:
        raise ChildProcessError("engine 0 ended")

    with pytest.raises(ChildProcessError, match="engine 0 ended"):
        make(Slow(), check).scored([PROMPT], SAMPLING, step=1)


def test_scores_are_waited_for_while_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The score comes at the third look."""
    monkeypatch.setattr(collect, "CHECK_EVERY_S", 0.01)
    slow, looks = Slow(), []

    def check() -> None:
        looks.append(1)
        if len(looks) == 3:
            slow.future.set_result(Score(reward=0.25, facts={}))

    rollouts, scores = make(slow, check).scored([PROMPT], SAMPLING, step=1)
    assert ([ROLLOUT], [0.25], 3) == (rollouts, [score.reward for score in scores], len(looks))


def test_a_reward_that_raises_is_heard_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first score never comes; the second one's error ends the wait at once."""
    monkeypatch.setattr(collect, "CHECK_EVERY_S", 0.01)
    slow, failed = Slow(), Future[Score]()
    failed.set_exception(OSError("no such judge"))
    futures = iter([slow.future, failed])
    monkeypatch.setattr(slow, "generate", lambda *_, **__: [ROLLOUT, ROLLOUT])
    monkeypatch.setattr(slow, "submit", lambda *_: next(futures))
    looks = iter(range(3))

    with pytest.raises(OSError, match="no such judge"):
        make(slow, lambda: next(looks)).scored([PROMPT], SAMPLING, step=1)
