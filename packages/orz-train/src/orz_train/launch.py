"""The composition root: a configuration in, a finished run out. The one file that knows every class."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from orz_train.algorithm import Algorithm, load_algorithm
from orz_train.backends import hf
from orz_train.backends.local.generator import LocalGenerator, LocalWeightLink
from orz_train.backends.local.load import LocalModels, load_models, model_path
from orz_train.checkpoint import ResumePoint, RunCheckpoints, Saved, require_whole, starting_point
from orz_train.collect import Collector
from orz_train.config.checks import check
from orz_train.config.length import num_steps, steps_per_episode
from orz_train.config.preflight import check_names
from orz_train.config.schema import Config
from orz_train.data import LoadedPrompts, PromptSet, load_eval_sets, load_prompts
from orz_train.data.packing import Packing
from orz_train.errors import BackendMissingError, ConfigError, RunFolderError
from orz_train.evaluation import Evaluator
from orz_train.ports import MetricSink, Sampling
from orz_train.rewards.pool import RewardPool
from orz_train.rewards.registry import load_reward
from orz_train.runlog import RunFolder, RunLog
from orz_train.stopwatch import Stopwatch
from orz_train.trainer import Trainer


def run(config: Config, *, run_dir: Path | None = None, resume: str = "auto") -> int:
    """Train as configured, from the start or from a checkpoint.

    Everything that a user may have got wrong is looked at before the run folder is made.

    Args:
        config: of the run.
        run_dir: the run folder; `./runs/<name>-<UTC>-<id>` by default.
        resume: `auto` goes on where `run_dir` left off, if it did; `never` wants a new folder; else the path of a
            run folder or checkpoint. With another `run_dir` that checkpoint starts a new run there.

    Returns:
        The exit code, 0.

    Raises:
        OrzError: whatever went wrong, with what to do next.
    """
    check_names(config)
    load_reward(config.reward.function)  # here, too, so that a wrong signature shows before anything starts
    _check_backend(config)
    check(config)
    if config.local.num_threads is not None:
        torch.set_num_threads(config.local.num_threads)
    start = starting_point(run_dir, resume)
    if start is not None:
        require_whole(start)
    parts = load_parts(config, start)
    folder = run_dir if run_dir is not None or start is None else start.run_dir
    with (
        RunFolder(config, folder, must_be_new=resume == "never") as run_folder,
        RunLog(
            run_folder,
            num_steps=parts.num_steps,
            steps_per_episode=steps_per_episode(config, len(parts.prompts)),
            backends={"trainer": "local", "generator": "local"},
        ) as log,
        RewardPool.from_config(config.reward) as rewards,
    ):
        trainer = build_trainer(config, parts, run_folder.path, rewards, log)
        _announce(log, parts, start)
        trainer.weights.push(version=parts.after_step)
        trainer.run(after_step=parts.after_step)
        log.event("finish", step=parts.num_steps, reason="all steps done")
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a run is made of, loaded and ready."""

    tokenizer: hf.HFTokenizer
    prompts: PromptSet
    eval_sets: Mapping[str, LoadedPrompts]
    num_too_long: int
    algorithm: Algorithm
    models: LocalModels
    num_steps: int
    start: ResumePoint | None

    @property
    def after_step(self) -> int:
        """Steps taken already."""
        return self.start.step if self.start is not None else 0


def build_trainer(config: Config, parts: Parts, run_dir: Path, rewards: RewardPool, sink: MetricSink) -> Trainer:
    """Wire a trainer from its parts."""
    clock = Stopwatch()
    models = parts.models
    generator = LocalGenerator(models.policy.model, parts.tokenizer, max_sequences=config.generation.max_sequences)
    collector = Collector(
        prompts=parts.prompts,
        generator=generator,
        rewards=rewards,
        sampling=_sampling(config),
        sink=sink,
        clock=clock,
        max_unscored_steps=config.reward.max_unscored_steps,
    )
    saved: dict[str, Saved] = {"policy": models.policy}
    if models.critic is not None:
        saved["critic"] = models.critic
    return Trainer(
        config=config,
        algorithm=parts.algorithm,
        collect=collector,
        evaluate=Evaluator(collector, {name: s.prompts for name, s in parts.eval_sets.items()}, config.eval),
        policy=models.policy,
        critic=models.critic,
        reference=models.reference,
        weights=LocalWeightLink(generator),
        on_device=lambda _model: nullcontext(),
        sink=sink,
        checkpoints=RunCheckpoints(run_dir, saved, config, sink, prompts_sha256=parts.prompts.sha256),
        clock=clock,
        packing=Packing(
            max_tokens=config.packing.max_tokens_per_row,
            mask_truncated=config.advantage.truncation == "mask",
        ),
        num_steps=parts.num_steps,
        skipped_in_a_row=dict(parts.start.skipped_in_a_row) if parts.start is not None else {},
    )


def load_parts(config: Config, start: ResumePoint | None = None) -> Parts:
    """Load tokenizer, prompts and models; from a checkpoint, if there is one to start from."""
    tokenizer = hf.load_tokenizer(model_path(config.policy.model), trust_remote_code=config.policy.trust_remote_code)
    loaded = load_prompts(config.data, tokenizer)
    eval_sets = load_eval_sets(config.data, tokenizer, max_prompts=config.eval.max_prompts)
    prompts = PromptSet(
        loaded.prompts, prompts_per_step=config.prompts_per_step, seed=config.seed, shuffle=config.data.shuffle
    )
    if start is not None and start.prompts_sha256 not in {"", prompts.sha256}:
        raise RunFolderError(
            f"{start.path}: the run was trained on other prompts than data now gives",
            remedy="restore the prompt files; or start a new run from the weights, policy.model=CHECKPOINT/policy",
        )
    unknown = [token for token in config.generation.stop_token_ids if token >= tokenizer.vocab_size]
    if unknown:
        raise ConfigError(
            f"generation.stop_token_ids: {unknown} are not among the {tokenizer.vocab_size} ids of the tokenizer",
            remedy=f"remove them; {config.policy.model} ends a response with {list(tokenizer.eos_token_ids)} anyway",
        )
    total_steps = num_steps(config, len(prompts))
    algorithm = load_algorithm(config)
    checkpoint = start.path if start is not None else None
    return Parts(
        tokenizer=tokenizer,
        prompts=prompts,
        eval_sets=eval_sets,
        num_too_long=len(loaded.too_long) + sum(len(one.too_long) for one in eval_sets.values()),
        algorithm=algorithm,
        models=load_models(config, tokenizer, algorithm, num_steps=total_steps, checkpoint=checkpoint),
        num_steps=total_steps,
        start=start,
    )


def _sampling(config: Config) -> Sampling:
    """Say how to sample in training; evaluation changes its number and temperature alone."""
    generation = config.generation
    return Sampling(
        max_tokens=generation.max_response_tokens,
        temperature=generation.temperature,
        top_p=generation.top_p,
        top_k=generation.top_k,
        stop=generation.stop,
        stop_token_ids=generation.stop_token_ids,
        num_samples=config.samples_per_prompt,
        seed=config.seed,
    )


def _check_backend(config: Config) -> None:
    """Refuse a backend that this version doesn't have.

    Raises:
        BackendMissingError: the run asks for the cluster backend.
    """
    if config.backend == "cluster":
        raise BackendMissingError(
            "backend: cluster (Ray, vLLM and DeepSpeed) isn't part of this version of orz-train",
            remedy="a small model trains in one process on a CPU: backend=local, dtype=float32 for policy and critic",
        )


def _announce(log: RunLog, parts: Parts, start: ResumePoint | None) -> None:
    """Record how the run begins."""
    if start is None:
        log.event("start", step=0, steps=parts.num_steps, prompts=len(parts.prompts))
    else:
        log.event("resume", step=start.step, path=start.path, steps=parts.num_steps)
    if parts.num_too_long:
        log.event("prompts_too_long", count=parts.num_too_long)
