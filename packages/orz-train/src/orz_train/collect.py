"""Prompts into scored rollouts: rewards run while responses are still being sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait

from orz_train.errors import RewardError
from orz_train.ports import Generator, MetricSink, PromptSource, RewardModel, Sampling
from orz_train.stopwatch import Stopwatch
from orz_train.types import Prompt, Rollout, Score, ScoreStatus

CHECK_EVERY_S = 1.0


class Collector:
    """Samples responses and has them scored.

    Args:
        prompts: gives each step its prompts.
        generator: samples.
        rewards: scores.
        sampling: how to sample in training.
        sink: is told of the progress.
        clock: counts the seconds of `generate` and of `reward`, the wait for the last scores.
        max_unscored_steps: training steps in a row without a single score that end the run.
        check: looks, while scores are waited for, whether the models are well; raises if they aren't.
        unscored_steps: how many of those there were last, where a run goes on.
    """

    def __init__(
        self,
        *,
        prompts: PromptSource,
        generator: Generator,
        rewards: RewardModel,
        sampling: Sampling,
        sink: MetricSink,
        clock: Stopwatch,
        max_unscored_steps: int,
        check: Callable[[], None] = lambda: None,
        unscored_steps: int = 0,
    ) -> None:
        self.prompts = prompts
        self.generator = generator
        self.rewards = rewards
        self.sampling = sampling
        self.sink = sink
        self.clock = clock
        self.max_unscored_steps = max_unscored_steps
        self._check = check
        self.unscored_steps = unscored_steps
        """Training steps in a row without a single score; part of a checkpoint."""

    def __call__(self, step: int) -> tuple[list[Rollout], list[Score]]:
        """Return the N rollouts of a training step and their scores, in rollout order: by prompt, then sample.

        Raises:
            RewardError: no response has had a score for `max_unscored_steps` steps.
        """
        rollouts, scores = self.scored(self._prompts_of(step), self.sampling, step=step)
        self._watch(step, scores)
        return rollouts, scores

    def with_prompts(
        self, step: int, rollouts: Sequence[Rollout], scores: Sequence[Score]
    ) -> list[tuple[Prompt, Rollout, Score]]:
        """Put each rollout of a training step between its prompt and its score, for people to read."""
        prompts = self._prompts_of(step)
        return [(prompts[rollout.group_index], rollout, score) for rollout, score in zip(rollouts, scores, strict=True)]

    def scored(self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int) -> tuple[list[Rollout], list[Score]]:
        """Sample each prompt `sampling.num_samples` times and score every response."""
        total = len(prompts) * sampling.num_samples
        pending: list[tuple[Rollout, Future[Score]]] = []
        with self.clock.phase("generate"):
            self.sink.phase("generate", 0, total)
            for rollout in self.generator.generate(prompts, sampling, step=step):
                pending.append((rollout, self.rewards.submit(prompts[rollout.group_index], rollout)))
                self.sink.phase("generate", len(pending), total)
        pending.sort(key=lambda pair: _sample_order(pair[0]))
        with self.clock.phase("reward"):
            self.sink.phase("reward", 0, total)
            scores = self._results([future for _, future in pending])
        return [rollout for rollout, _ in pending], scores

    def _results(self, futures: Sequence[Future[Score]]) -> list[Score]:
        """Wait for all scores, with a look at the processes of the models now and then.

        Raises:
            Exception: what one of them raises, at once.
        """
        while True:
            done, waiting = wait(futures, timeout=CHECK_EVERY_S, return_when=FIRST_EXCEPTION)
            for future in done:
                if future.exception() is not None:
                    future.result()
            if not waiting:
                return [future.result() for future in futures]
            self._check()

    def _watch(self, step: int, scores: Sequence[Score]) -> None:
        """Warn of a step without a single score; stop the run after several in a row."""
        if any(score.status is ScoreStatus.OK for score in scores):
            self.unscored_steps = 0
            return
        self.unscored_steps += 1
        reason = scores[0].facts.get("error", scores[0].status.value)
        message = f"no response of step {step} has a score: {reason}"
        self.sink.event("warning", step=step, message=message)
        if self.unscored_steps >= self.max_unscored_steps:
            raise RewardError(
                f"{message}; so it was for {self.unscored_steps} steps in a row",
                remedy="mend the reward function or the answers in the data, and start again;"
                " orz_train.testing.check_reward tests a function without a run",
            )

    def _prompts_of(self, step: int) -> Sequence[Prompt]:
        """Return the P prompts of a training step; steps count from 1, batches of prompts from 0."""
        return self.prompts.batch(step - 1)


def _sample_order(rollout: Rollout) -> tuple[int, int]:
    """Order rollouts by prompt, then sample, whatever order they finished in."""
    return rollout.group_index, int(rollout.rollout_id.rsplit("/", 1)[1])
