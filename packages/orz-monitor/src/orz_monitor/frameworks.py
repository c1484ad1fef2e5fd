"""What trainers call their settings: remedies name the knob of the trainer that wrote the log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from orz_monitor.findings import Cause, Finding
from orz_monitor.run import Run

OURS: Final = "orz-train"
_QUOTED: Final = re.compile(r"`([^`]+)`")
_SETS: Final = re.compile(r"\bset\b(?:(?![;:]|\. ).)*$")
"""The beginning of a clause that asks to set something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting of orz-train, and its counterparts.

    Attributes:
        words: what it is, for a trainer whose name for it is not known.
        names: trainer to its name, or to a few words that contain one.
        values: trainer to value to its value, where they differ.
    """

    words: str
    names: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def _same(words: str, **names: str) -> Setting:
    """Make a setting whose values are the same everywhere."""
    return Setting(words=words, names=names)


_ACTOR: Final = "actor_rollout_ref.actor"
_ROLLOUT: Final = "actor_rollout_ref.rollout"
SETTINGS: Final[Mapping[str, Setting]] = {
    "policy.optimizer.lr": _same(
        "the policy's learning rate", orz="actor_learning_rate", verl=f"{_ACTOR}.optim.lr", trl="learning_rate"
    ),
    "policy.optimizer.max_grad_norm": _same(
        "the norm at which gradients are clipped", orz="max_norm", verl=f"{_ACTOR}.grad_clip", trl="max_grad_norm"
    ),
    "policy.optimizer.schedule": _same("the learning-rate schedule", trl="lr_scheduler_type"),
    "policy.optimizer.warmup_steps": _same(
        "the warm-up of the learning rate", verl=f"{_ACTOR}.optim.lr_warmup_steps", trl="warmup_steps"
    ),
    "policy.dtype": _same("the policy's precision"),
    "policy.gradient_checkpointing": Setting(
        words="gradient checkpointing of the policy",
        names={
            "orz": "gradient_checkpointing",
            "verl": "actor_rollout_ref.model.enable_gradient_checkpointing",
            "trl": "gradient_checkpointing",
        },
        values={trainer: {"true": "True"} for trainer in ("orz", "verl", "trl")},
    ),
    "policy.model": _same("the policy's starting model", orz="pretrain", verl="actor_rollout_ref.model.path"),
    "policy.freeze_steps": _same(
        "the steps in which only the critic trains", orz="freezing_actor_steps", verl="trainer.critic_warmup"
    ),
    "policy.updates_per_step": _same("the optimizer steps for each batch of rollouts", orz="policy_update_steps"),
    "policy.epochs_per_step": _same(
        "the passes over each batch of rollouts", orz="max_epochs", verl=f"{_ACTOR}.ppo_epochs", trl="num_iterations"
    ),
    "critic.optimizer.lr": _same(
        "the critic's learning rate",
        orz="critic_learning_rate",
        verl="critic.optim.lr",
        openrlhf="--critic_learning_rate",
    ),
    "critic.updates_per_step": _same("the critic's optimizer steps for each batch", orz="critic_update_steps"),
    "critic.dtype": _same("the critic's precision"),
    "reference.model": _same("the reference model"),
    "generation.max_response_tokens": _same(
        "the limit of response tokens",
        orz="generate_max_len",
        verl="data.max_response_length",
        trl="max_completion_length",
    ),
    "generation.temperature": _same(
        "the sampling temperature", orz="temperature", verl=f"{_ROLLOUT}.temperature", trl="temperature"
    ),
    "generation.top_p": _same("top-p", orz="top_p", verl=f"{_ROLLOUT}.top_p", trl="top_p"),
    "generation.top_k": _same("top-k", orz="top_k", verl=f"{_ROLLOUT}.top_k", trl="top_k"),
    "generation.max_sequences": _same("the sequences that an engine runs at once", verl=f"{_ROLLOUT}.max_num_seqs"),
    "generation.stop": _same("the stop strings"),
    "samples_per_prompt": _same(
        "the samples for each prompt", orz="n_samples_per_prompt", verl=f"{_ROLLOUT}.n", trl="num_generations"
    ),
    "loss.clip_high": _same(
        "the upper clip range", orz="eps_clip", verl=f"{_ACTOR}.clip_ratio_high", trl="epsilon_high"
    ),
    "loss.clip_low": _same("the lower clip range", orz="eps_clip", verl=f"{_ACTOR}.clip_ratio_low", trl="epsilon"),
    "loss.entropy_coef": _same("the entropy bonus", verl=f"{_ACTOR}.entropy_coeff"),
    "loss.value_clip": _same("the clip range of values", orz="value_clip", verl="critic.cliprange_value"),
    "loss.reduction": Setting(
        words="the reduction of the loss",
        names={"verl": f"{_ACTOR}.loss_agg_mode", "trl": "loss_type"},
        values={
            "verl": {"token_mean": "token-mean", "sequence_mean": "seq-mean-token-mean"},
            "trl": {"token_mean": "dapo", "sequence_mean": "grpo"},
        },
    ),
    "kl.loss_coef": _same("the weight of the KL term", orz="kl_loss_coef", verl=f"{_ACTOR}.kl_loss_coef", trl="beta"),
    "kl.estimator": Setting(
        words="the KL estimator",
        names={
            "openrlhf": "--algo.kl.estimator",
            "verl": f"{_ACTOR}.kl_loss_type",
            "nemo-rl": "loss_fn.reference_policy_kl_type",
        },
        values={"verl": {"k1": "kl", "k2": "mse", "k3": "low_var_kl"}},
    ),
    "reward.function": _same("the reward function", trl="reward_funcs", verl="custom_reward_function.path"),
    "reward.timeout_s": _same("the time limit of the reward function"),
    "reward.workers": _same("the number of processes that score", verl="reward_model.num_workers"),
    "reward.only_if_stopped": _same("the rule that only responses that stopped earn a reward"),
    "advantage.truncation": Setting(
        words="the treatment of truncated responses",
        names={"trl": "mask_truncated_completions", "ms-swift": "overlong_filter"},
        values={trainer: {"mask": "True", "zero": "False"} for trainer in ("trl", "ms-swift")},
    ),
    "packing.max_tokens_per_row": _same(
        "the tokens of a packed row", orz="packing_max_len", verl=f"{_ACTOR}.ppo_max_token_len_per_gpu"
    ),
    "data.template": _same("the prompt template"),
    "data.shuffle": _same(
        "the shuffling of prompts", verl="data.shuffle", trl="shuffle_dataset", **{"ms-swift": "dataset_shuffle"}
    ),
    "data.eval": _same("the held-out sets", verl="data.val_files", trl="eval_dataset", **{"ms-swift": "val_dataset"}),
    "eval.every_steps": _same("the steps between evaluations", orz="eval_interval", verl="trainer.test_freq"),
    "checkpoint.every_steps": _same(
        "the steps between checkpoints", orz="save_interval", verl="trainer.save_freq", trl="save_steps"
    ),
    "rollouts/": _same(
        "the dumped samples",
        orz="dumped_replay_buffer/",
        verl="trainer.rollout_data_dir",
        trl="the samples that log_completions=True prints",
    ),
    "orz train ... --resume auto": _same("the trainer's own way to resume"),
}
"""Settings that remedies name. What else stands in backquotes is the same everywhere."""
_BUILT_ON: Final = {"ms-swift": "trl"}
"""Trainers whose settings are, but for some, those of another one."""
HOW_TO_GIVE: Final = "give a run folder with config.yaml, or the run of W&B, MLflow or Trackio, which hold the settings"
"""What to do where a setting of a run is not known."""


def framework_of(run: Run) -> str:
    """Return which trainer wrote a run's log, such as `orz` or `verl`; orz-train where that is not known."""
    return str(getattr(run, "framework", "") or OURS)


def setting_of(run: Run, name: str) -> str:
    """Return a setting of a run by our name for it, or by the one of the trainer that wrote its log; empty if unknown.

    Args:
        run: the run.
        name: what orz-train calls it, such as `policy.optimizer.lr`.
    """
    return run.settings.get(name) or run.settings.get(called(name, framework_of(run)), "")


def called(name: str, framework: str) -> str:
    """Return what a trainer calls a setting of ours; our name where that is not known.

    Example:
        >>> called("policy.optimizer.max_grad_norm", "verl")
        'actor_rollout_ref.actor.grad_clip'
    """
    setting = SETTINGS.get(name)
    return setting.names.get(_whose(setting, framework), name) if setting is not None else name


def _whose(setting: Setting, framework: str) -> str:
    """Return the trainer whose name for a setting another one uses, where it has none of its own."""
    return framework if framework in setting.names else _BUILT_ON.get(framework, framework)


def translated(finding: Finding, framework: str) -> Finding:
    """Return a finding whose checks and remedies name the settings of a trainer."""
    if framework == OURS:
        return finding
    causes = tuple(
        Cause(what=cause.what, confirm=translate(cause.confirm, framework), try_=translate(cause.try_, framework))
        for cause in finding.causes
    )
    return replace(finding, causes=causes, caveat=translate(finding.caveat, framework))


def translate(text: str, framework: str) -> str:
    """Replace settings of orz-train in backquotes by a trainer's own, or by words where it has none that is known.

    Example:
        >>> translate("halve `policy.optimizer.lr`", "trl")
        'halve `learning_rate`'
        >>> translate("set `policy.dtype=float32`", "trl")
        "set the policy's precision to float32"
        >>> translate("it goes away with `policy.dtype=float32`", "trl")
        "it goes away with the policy's precision at float32"
    """
    return _QUOTED.sub(lambda match: _named(match[1], framework, text[: match.start()]), text)


def _named(quoted: str, framework: str, before: str) -> str:
    """Name one setting, with the value given to it, as it fits what stands before it."""
    name, equals, value = quoted.partition("=")
    setting = SETTINGS.get(name)
    if setting is None:
        return f"`{quoted}`"
    framework = _whose(setting, framework)
    if framework in setting.names:
        value = setting.values.get(framework, {}).get(value, value)
        called_there = f"{setting.names[framework]}{equals}{value}"
        return called_there if " " in called_there else f"`{called_there}`"
    given = "to" if _SETS.search(before) else "at"
    return f"{setting.words} {given} {value}" if equals else setting.words
