"""The algorithm box: one step of training, the same for every algorithm, backend and placement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from orz_train.algorithm import Algorithm
from orz_train.collect import Collector
from orz_train.config.schema import Config
from orz_train.config.training import TrainedModel
from orz_train.data.balancing import balance, minibatches
from orz_train.data.experience import Experience, assemble
from orz_train.data.packing import Packing, pack
from orz_train.errors import NonFiniteError
from orz_train.evaluation import Evaluator
from orz_train.mismatch import MismatchWatch
from orz_train.ports import CheckpointStore, Critic, MetricSink, Policy, Reference, WeightLink
from orz_train.reporting import experience_metrics, return_metric, reward_metrics, rollout_metrics
from orz_train.stopwatch import Stopwatch
from orz_train.types import (
    Estimates,
    FinishReason,
    Last,
    Metric,
    PackedRow,
    Rollout,
    Score,
    StepReport,
    Targets,
    reduce_metrics,
)


@dataclass(kw_only=True, slots=True)
class Trainer:
    """Everything a step needs; models, generator, log and storage are behind ports."""

    config: Config
    algorithm: Algorithm
    collect: Collector
    evaluate: Evaluator
    policy: Policy
    critic: Critic | None
    reference: Reference | None
    weights: WeightLink
    sink: MetricSink
    checkpoints: CheckpointStore
    clock: Stopwatch
    packing: Packing
    num_steps: int
    skipped_in_a_row: dict[str, int] = field(default_factory=dict)
    """By role, updates in a row that weren't finite; part of a checkpoint."""
    mismatch: MismatchWatch = field(default_factory=MismatchWatch)
    """Part of a checkpoint, too."""

    def run(self, *, after_step: int = 0) -> None:
        """Train from where `after_step` steps left off to the last step, evaluating and saving on the way.

        Raises:
            NonFiniteError: too many updates in a row had a non-finite gradient.
            CheckpointError: a checkpoint couldn't be written.
        """
        self.clock.restart()
        if after_step == 0 and self.evaluate.due(0, self.num_steps):
            report = self._evaluated(StepReport(step=0, metrics={}, seconds={}, policy_version=0))
            self.sink.write(replace(report, seconds=self.clock.read()))
        with self.checkpoints:
            for step in range(after_step + 1, self.num_steps + 1):
                report = self.step(step)
                self._watch_mismatch(report)
                if self.evaluate.due(step, self.num_steps):
                    report = self._evaluated(report)
                self.sink.write(replace(report, seconds=self.clock.read()))
                self._save(step)  # after the record, so that a resume finds every step up to it in the log

    def _save(self, step: int) -> None:
        """Save this step if it is due; else settle what was done in the background while it was taken."""
        settings = self.config.checkpoint
        due = step % settings.every_steps == 0 or step == self.num_steps
        if due or settings.asynchronous or settings.copy_to is not None:
            with self.clock.phase("save"):
                self.sink.phase("save", 0, 1)
                if due:
                    self.checkpoints.save(step, skipped_in_a_row=self.skipped_in_a_row, watches=self._watches())
                else:
                    self.checkpoints.settle()

    def step(self, step: int) -> StepReport:
        """Take one PPO iteration (Schulman et al. 2017, Algorithm 1), on P prompts with G samples each."""
        rollouts, scores = self.collect(step)  # [N]
        rewards_N, valid_N = self.algorithm.shaped_rewards(rollouts, scores)
        rows = pack(rollouts, self.packing)  # [B] rows of <= T tokens
        estimates = self.estimate(rows, rollouts)  # logprobs, ref, values [T]
        targets = self.algorithm.advantages(rows, rewards_N, valid_N, estimates)  # advantages, returns [T]
        experience = assemble(rollouts, rows, estimates, targets, self.packing)
        metrics = self.update_critic(experience, step)
        metrics += self.update_policy(experience, step)
        metrics += self.push_weights(version=step)
        return self.report(step, rollouts, scores, valid_N, rows, estimates, targets, metrics=metrics)

    def estimate(self, rows: Sequence[PackedRow], rollouts: Sequence[Rollout]) -> list[Estimates]:
        """Ask every model what it thinks of the rows, before any update changes its mind."""
        values = bootstraps = references = None
        with self.clock.phase("score"):
            self.sink.phase("score", 0, len(rows))
            if self.critic is not None:
                values, ends = zip(*self.critic.values(rows), strict=True)
                if self.config.advantage.truncation == "bootstrap":
                    bootstraps = [end_S * _truncated(row, rollouts) for row, end_S in zip(rows, ends, strict=True)]
            if self.reference is not None:
                references = self.reference.logprobs(rows)
            logprobs = self.policy.logprobs(rows)
        nothing = [None] * len(rows)
        columns = zip(logprobs, references or nothing, values or nothing, bootstraps or nothing, strict=True)
        return [
            Estimates(logprobs_T=logprobs_T, ref_logprobs_T=ref_T, values_T=values_T, bootstrap_values_S=bootstrap_S)
            for logprobs_T, ref_T, values_T, bootstrap_S in columns
        ]

    def update_critic(self, experience: Experience, step: int) -> list[Metric]:
        """Fit the critic to the returns."""
        if self.critic is None or self.config.critic is None:
            return []
        with self.clock.phase("train_critic"):
            return self._updates("critic", self.critic, self.config.critic, experience, step)

    def update_policy(self, experience: Experience, step: int) -> list[Metric]:
        """Improve the policy; not in its first `freeze_steps` steps, which are the critic's alone."""
        frozen = step <= self.config.policy.freeze_steps
        metrics = [Metric("policy/frozen", Last(int(frozen)))]
        if not frozen:
            with self.clock.phase("train_policy"):
                metrics += self._updates("policy", self.policy, self.config.policy, experience, step)
        return metrics

    def push_weights(self, *, version: int) -> list[Metric]:
        """Let the generator sample from the weights of now."""
        with self.clock.phase("sync"):
            return [*self.weights.push(version=version), Metric("sync/version", Last(version))]

    def report(
        self,
        step: int,
        rollouts: Sequence[Rollout],
        scores: Sequence[Score],
        valid_N: torch.Tensor,
        rows: Sequence[PackedRow],
        estimates: Sequence[Estimates],
        targets: Sequence[Targets],
        *,
        metrics: list[Metric],
    ) -> StepReport:
        """Say what the step was like, next to what its updates said."""
        kl = self.config.kl
        metrics = [
            *metrics,
            *reward_metrics(rollouts, scores),
            *rollout_metrics(rollouts),
            *experience_metrics(rows, estimates, targets, valid_N, kl_estimator=kl.estimator),
            return_metric(scores, rows, estimates, kl_reward_coef=kl.reward_coef, kl_estimator=kl.estimator),
            Metric("data/epoch", Last(step * self.config.prompts_per_step / len(self.collect.prompts))),
        ]
        return StepReport(
            step=step,
            metrics=reduce_metrics(metrics),
            seconds={},
            policy_version=min(rollout.policy_version for rollout in rollouts),
            samples=self.collect.with_prompts(step, rollouts, scores),
        )

    def _updates(
        self, role: str, model: Policy | Critic, settings: TrainedModel, experience: Experience, step: int
    ) -> list[Metric]:
        """Take `updates_per_step` optimizer steps in each of `epochs_per_step` passes over the experience."""
        metrics: list[Metric] = []
        total = settings.updates_per_step * settings.epochs_per_step
        for epoch in range(settings.epochs_per_step):
            parts = minibatches(
                experience.samples, settings.updates_per_step, seed=self.config.seed, step=step, epoch=epoch
            )
            for index, samples in enumerate(parts):
                self.sink.phase(f"train_{role}", epoch * settings.updates_per_step + index, total)
                rows = experience.pack(samples)
                if not any(row.row.num_actions for row in rows):
                    continue  # every response is masked: a step would move the weights by momentum alone
                update = model.update(balance(rows, model.num_ranks))
                self._watch(role, update, step)
                metrics += update
        return metrics

    def _watch(self, role: str, update: Sequence[Metric], step: int) -> None:
        """Count skipped updates in a row; stop the run at the limit."""
        if not reduce_metrics(update)[f"{role}/skipped_updates"]:
            self.skipped_in_a_row[role] = 0
            return
        self.skipped_in_a_row[role] = in_a_row = self.skipped_in_a_row.get(role, 0) + 1
        limit = self.config.nonfinite.max_consecutive
        self.sink.event("skipped_update", step=step, role=role, in_a_row=in_a_row, limit=limit)
        if in_a_row >= limit:
            raise NonFiniteError(
                f"step {step}: {in_a_row} updates of the {role} in a row had a loss or gradient that isn't finite;"
                " all were skipped, its weights are those before the first of them",
                remedy=f"lower {role}.optimizer.lr or raise its warmup_steps, look at the rollouts of this step,"
                " and resume from the last checkpoint",
            )

    def _watch_mismatch(self, report: StepReport) -> None:
        """Warn where the generator's log-probs aren't the policy's."""
        warning = self.mismatch.warning(report, self.config)
        if warning is not None:
            self.sink.event("warning", step=report.step, **warning)

    def _watches(self) -> dict[str, Any]:
        """Return what the watches have seen, for JSON."""
        return {"mismatch": self.mismatch.state(), "unscored_steps": self.collect.unscored_steps}

    def _evaluated(self, report: StepReport) -> StepReport:
        """Add held-out accuracy to a report."""
        with self.clock.phase("eval"):
            metrics, graded = self.evaluate(report.step)
        return replace(report, metrics={**report.metrics, **reduce_metrics(metrics)}, eval_samples=graded)


def _truncated(row: PackedRow, rollouts: Sequence[Rollout]) -> torch.Tensor:
    """Return [S] f32, 1 for each sequence whose response was cut."""
    return torch.tensor([float(rollouts[index].finish is FinishReason.LENGTH) for index in row.indices_S])
