"""The composition root: a configuration in, a finished run out. The one file that knows every class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orz_train.algorithm import Algorithm, load_algorithm
from orz_train.backends import hf
from orz_train.backends.local.load import LocalBackend
from orz_train.backends.needs import check_backend, not_importable, other_versions
from orz_train.backends.saved_state import require_fitting_state
from orz_train.checkpoint import ResumePoint, RunCheckpoints, check_copies, check_storage, require_whole, starting_point
from orz_train.collect import Collector
from orz_train.config.checks import check
from orz_train.config.length import num_steps, steps_per_episode
from orz_train.config.preflight import check_names
from orz_train.config.schema import Config
from orz_train.config.shipped import is_shipped, model_path
from orz_train.data import LoadedPrompts, PromptSet, load_eval_sets, load_prompts
from orz_train.data.packing import Packing
from orz_train.errors import ConfigError, RunFolderError
from orz_train.evaluation import Evaluator
from orz_train.mismatch import MismatchWatch
from orz_train.ports import Backend, MetricSink, Models, Sampling, Saved
from orz_train.rewards.pool import RewardPool
from orz_train.rewards.registry import load_reward
from orz_train.runlog import RunFolder, RunLog
from orz_train.stopwatch import Stopwatch
from orz_train.trainer import Trainer

if TYPE_CHECKING:
    from orz_train.cluster.run import Cluster


def run(config: Config, *, run_dir: Path | None = None, resume: str = "auto") -> int:
    """Train as configured, from the start or from a checkpoint.

    What a user may have got wrong is looked at before the run folder is made, as far as one process can tell: whether
    the run fits on the cluster, and whether vLLM knows an engine option, shows when those start.

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
    check(config)
    check_backend(config)
    start = starting_point(run_dir, resume)
    if start is not None:
        require_whole(start)
        require_fitting_state(start.path, config)
    inputs = load_inputs(config, start)
    folder = run_dir if run_dir is not None or start is None else start.run_dir
    if folder is not None and start is not None and start.step >= inputs.num_steps:
        _settle_finished(config, inputs, start, folder)
        return 0
    if config.backend == "cluster":
        _cluster(config)  # here, too, so that no run folder is made in vain
    with (
        RunFolder(config, folder, must_be_new=resume == "never") as run_folder,
        RunLog(
            run_folder,
            num_steps=inputs.num_steps,
            steps_per_episode=steps_per_episode(config, len(inputs.prompts)),
        ) as log,
        RewardPool.from_config(config.reward) as rewards,
        _backend(config, inputs, run_folder.path, log) as backend,
    ):
        check_copies(config, run_folder.path, log)
        check_storage(config, backend.nodes, run_folder.path, log, num_steps=inputs.num_steps)
        models = load_models(backend, inputs)
        log.environment(models.ran_on)
        trainer = build_trainer(config, inputs, models, run_folder.path, rewards, log)
        _announce(log, inputs, other_versions(config))
        trainer.weights.push(version=inputs.after_step)
        trainer.run(after_step=inputs.after_step)
        log.event("finish", step=inputs.num_steps, reason="all steps done")
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What a run reads before any model, checked."""

    tokenizer: hf.HFTokenizer
    prompts: PromptSet
    eval_sets: Mapping[str, LoadedPrompts]
    num_too_long: int
    algorithm: Algorithm
    num_steps: int
    start: ResumePoint | None

    @property
    def after_step(self) -> int:
        """Steps taken already."""
        return self.start.step if self.start is not None else 0


def load_inputs(config: Config, start: ResumePoint | None = None) -> Inputs:
    """Load tokenizer and prompts.

    Raises:
        DataError: a file can't be used.
        RunFolderError: the checkpoint to start from was trained on other prompts.
        ConfigError: a setting doesn't fit the tokenizer, or the algorithm lacks a critic or has no use for one.
    """
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
    algorithm = load_algorithm(config)
    if algorithm.needs_critic and config.critic is None:
        raise ConfigError(
            f"algorithm.kind: {config.algorithm.kind} needs a critic, and there is no critic section",
            remedy="add one, at least critic.optimizer.lr; or set needs_critic = False in the class",
        )
    if config.critic is not None and not algorithm.needs_critic:
        raise ConfigError(
            f"critic: {config.algorithm.kind} uses no critic, and a critic section is there",
            remedy="say critic: null (critic=null); or set needs_critic = True in the class",
        )
    return Inputs(
        tokenizer=tokenizer,
        prompts=prompts,
        eval_sets=eval_sets,
        num_too_long=len(loaded.too_long) + sum(len(one.too_long) for one in eval_sets.values()),
        algorithm=algorithm,
        num_steps=num_steps(config, len(prompts)),
        start=start,
    )


def load_models(backend: Backend, inputs: Inputs) -> Models:
    """Load the models of a run where its backend has them, from the start or from a checkpoint."""
    return backend.load(
        num_steps=inputs.num_steps,
        checkpoint=inputs.start.path if inputs.start is not None else None,
        probe=inputs.prompts.batch(0)[0],
    )


def build_trainer(
    config: Config, inputs: Inputs, models: Models, run_dir: Path, rewards: RewardPool, sink: MetricSink
) -> Trainer:
    """Wire a trainer from its parts."""
    clock = Stopwatch()
    watches = inputs.start.watches if inputs.start is not None else {}
    collector = Collector(
        prompts=inputs.prompts,
        generator=models.generator,
        rewards=rewards,
        sampling=_sampling(config),
        sink=sink,
        clock=clock,
        max_unscored_steps=config.reward.max_unscored_steps,
        check=models.check,
        unscored_steps=int(watches.get("unscored_steps", 0)),
    )
    saved: dict[str, Saved] = {"policy": models.policy}
    if models.critic is not None:
        saved["critic"] = models.critic
    return Trainer(
        config=config,
        algorithm=inputs.algorithm,
        collect=collector,
        evaluate=Evaluator(collector, {name: s.prompts for name, s in inputs.eval_sets.items()}, config.eval),
        policy=models.policy,
        critic=models.critic,
        reference=models.reference,
        weights=models.weights,
        sink=sink,
        checkpoints=RunCheckpoints(
            run_dir,
            saved,
            config,
            sink,
            nodes=models.nodes,
            prompts_sha256=inputs.prompts.sha256,
            check=models.check,
        ),
        clock=clock,
        packing=Packing(
            max_tokens=config.packing.max_tokens_per_row,
            mask_truncated=config.advantage.truncation == "mask",
        ),
        num_steps=inputs.num_steps,
        skipped_in_a_row=dict(inputs.start.skipped_in_a_row) if inputs.start is not None else {},
        mismatch=MismatchWatch.restored(watches.get("mismatch", {})),
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


def _backend(config: Config, inputs: Inputs, run_dir: Path, sink: MetricSink) -> AbstractContextManager[Backend]:
    """Choose where the models will live."""
    if config.backend == "local":
        return nullcontext(LocalBackend(config, inputs.tokenizer, inputs.algorithm))
    return _cluster(config).start(with_absolute_models(config), run_dir=run_dir, sink=sink)


def _cluster(config: Config) -> type[Cluster]:
    """Import what only this backend needs: Ray here, vLLM and DeepSpeed in its workers.

    Raises:
        BackendMissingError: it is there, but can't be imported, such as a Ray of another version.
    """
    try:
        from orz_train.cluster.run import Cluster  # noqa: PLC0415
    except Exception as error:  # whatever a package that isn't the one expected raises
        raise not_importable(config, error) from error
    return Cluster


def with_absolute_models(config: Config) -> Config:
    """Return the configuration for workers, whose working directory is another: local model folders are absolute.

    What isn't a folder here, a hub name or a shipped model, stays as it is.
    """
    sections = {"policy": config.policy, "critic": config.critic, "reference": config.reference}
    return config.model_copy(
        update={
            role: section.model_copy(update={"model": str(Path(section.model).absolute())})
            for role, section in sections.items()
            if section is not None
            and section.model is not None
            and not is_shipped(section.model)
            and Path(section.model).is_dir()
        }
    )


def _settle_finished(config: Config, inputs: Inputs, start: ResumePoint, folder: Path) -> None:
    """Say where a run stands that has no step left, and make the copies that it still owes; no model is loaded.

    Raises:
        RunFolderError: the checkpoint is to start a run in another folder, which would have nothing to do.
    """
    if os.path.realpath(folder) != os.path.realpath(start.run_dir):
        raise RunFolderError(
            f"{start.path} is from after step {start.step}, and the new run is to have {inputs.num_steps} steps:"
            " nothing would be trained",
            remedy=f"set steps to more than {start.step}",
        )
    with (
        RunFolder(config, folder, looks_only=True) as run_folder,
        RunLog(run_folder, num_steps=start.step) as log,
    ):
        _announce(log, inputs, ())
        if config.checkpoint.storage == "shared":  # else other nodes hold parts, and none is asked
            check_copies(config, run_folder.path, log)
            with RunCheckpoints(run_folder.path, {}, config, log):
                pass  # entering and leaving settles what was left
        log.event("finish", step=start.step, reason=f"all {inputs.num_steps} steps were done before")


def _announce(log: RunLog, inputs: Inputs, others: Sequence[str]) -> None:
    """Record how the run begins."""
    start = inputs.start
    if start is None:
        log.event("start", step=0, steps=inputs.num_steps, prompts=len(inputs.prompts))
    else:
        log.event("resume", step=start.step, path=start.path, steps=inputs.num_steps)
    if inputs.num_too_long:
        log.event("prompts_too_long", count=inputs.num_too_long)
    if others:
        log.event("warning", message=f"orz-train is made for other versions than are installed: {', '.join(others)}")
