"""Accuracy on held-out prompts, with the sampler and the rewards of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orz_train.collect import Collector
from orz_train.config.rollouts import Evaluation
from orz_train.types import FinishReason, Mean, Metric, Prompt, Rollout, Score, Sum

Graded = tuple[Prompt, Rollout, Score]


class Evaluator:
    """Answers held-out prompts and grades the answers.

    Args:
        collector: samples and scores.
        sets: held-out prompts by name.
        settings: how often, how many samples, at what temperature.
    """

    def __init__(self, collector: Collector, sets: Mapping[str, Sequence[Prompt]], settings: Evaluation) -> None:
        self.collector = collector
        self.sets = {name: prompts[: settings.max_prompts] for name, prompts in sets.items()}
        self.settings = settings
        self.sampling = replace(
            collector.sampling,
            num_samples=settings.samples_per_prompt,
            temperature=settings.temperature,
        )

    def due(self, step: int, last_step: int) -> bool:
        """Say whether to evaluate after `step` steps."""
        every = self.settings.every_steps
        return bool(self.sets) and every > 0 and (step % every == 0 or step == last_step)

    def __call__(self, step: int) -> tuple[list[Metric], list[Graded]]:
        """Evaluate every set; accuracy is the mean reward, an unscored answer counting as wrong."""
        metrics: list[Metric] = []
        graded: list[Graded] = []
        for name, prompts in self.sets.items():
            rollouts, scores = self.collector.scored(prompts, self.sampling, step=step)
            count = len(rollouts)
            truncated = sum(rollout.finish is FinishReason.LENGTH for rollout in rollouts)
            metrics += [
                Metric(f"eval/{name}/accuracy", Mean(sum(score.reward for score in scores), count)),
                Metric(
                    f"eval/{name}/response_tokens_mean", Mean(sum(rollout.response_len for rollout in rollouts), count)
                ),
                Metric(f"eval/{name}/truncated_frac", Mean(truncated, count)),
                Metric(f"eval/{name}/samples", Sum(count)),
            ]
            graded += [
                (prompts[rollout.group_index], rollout, score) for rollout, score in zip(rollouts, scores, strict=True)
            ]
        return metrics, graded
