"""Open-Reasoner-Zero's parameter names and what they are here, for people who come from there."""

from __future__ import annotations

from typing import NamedTuple


class OrzName(NamedTuple):
    """One of ORZ's parameters."""

    orz: str
    key: str
    """Ours, dotted; empty where nothing here corresponds."""
    note: str = ""
    """How it differs."""


ORZ_NAMES: tuple[OrzName, ...] = (
    OrzName("num_episodes", "episodes"),
    OrzName("rollout_batch_size", "prompts_per_step"),
    OrzName("n_samples_per_prompt", "samples_per_prompt"),
    OrzName("policy_update_steps", "policy.updates_per_step"),
    OrzName("critic_update_steps", "critic.updates_per_step"),
    OrzName("max_epochs", "policy.epochs_per_step", "policy and critic have one each"),
    OrzName("micro_rollout_batch_size", "generation.max_sequences"),
    OrzName("micro_train_batch_size", "packing.max_tokens_per_row", "ORZ allows only 1: one packed row at a time"),
    OrzName("micro_forward_batch_size", "packing.max_tokens_per_row", "ORZ allows only 1: one packed row at a time"),
    OrzName("packing_max_len", "packing.max_tokens_per_row"),
    OrzName("train_batch_size", "", "ORZ doesn't use it either; an update takes 1/updates_per_step of the rollouts"),
    OrzName("prompt_max_len", "data.max_prompt_tokens", "a longer prompt is left out here, not cut"),
    OrzName("generate_max_len", "generation.max_response_tokens"),
    OrzName("max_len", "generation.max_response_tokens", "prompt and response each have their own limit"),
    OrzName("temperature", "generation.temperature"),
    OrzName("top_p", "generation.top_p"),
    OrzName("top_k", "generation.top_k"),
    OrzName("stop", "generation.stop"),
    OrzName("pretrain", "policy.model"),
    OrzName("critic_pretrain", "critic.model", 'ORZ\'s "" for GRPO is `critic: null`'),
    OrzName("prompt_data", "data.train"),
    OrzName("eval_prompt_data", "data.eval"),
    OrzName("actor_learning_rate", "policy.optimizer.lr"),
    OrzName("critic_learning_rate", "critic.optimizer.lr"),
    OrzName("num_warmup_steps", "policy.optimizer.warmup_steps", "policy and critic have one each"),
    OrzName("adam_betas", "policy.optimizer.betas"),
    OrzName("l2", "policy.optimizer.weight_decay"),
    OrzName("max_norm", "policy.optimizer.max_grad_norm"),
    OrzName("bf16", "policy.dtype"),
    OrzName("gradient_checkpointing", "policy.gradient_checkpointing"),
    OrzName("freezing_actor_steps", "policy.freeze_steps", "lasts one step more in ORZ; its -1 is 0"),
    OrzName("use_grpo", "algorithm.kind", "`algorithm: grpo` and `critic: null`"),
    OrzName("gamma", "advantage.gamma"),
    OrzName("lambd", "advantage.lam"),
    OrzName("advantage_normalize", "advantage.whiten"),
    OrzName("eps_clip", "loss.clip_low", "and loss.clip_high"),
    OrzName("value_clip", "loss.value_clip"),
    OrzName("init_kl_coef", "kl.reward_coef"),
    OrzName("kl_loss_coef", "kl.loss_coef"),
    OrzName("use_kl_loss", "kl.loss_coef", "above 0 it is on"),
    OrzName("use_kl_estimator_k3", "kl.estimator"),
    OrzName("use_compute_reward_fn", "reward.function"),
    OrzName("enable_eval", "eval.every_steps", "0 never evaluates"),
    OrzName("eval_interval", "eval.every_steps"),
    OrzName("save_interval", "checkpoint.every_steps"),
    OrzName("save_path", "", "the run folder holds the checkpoints: --run-dir DIR"),
    OrzName("ckpt_path", "", "the run folder holds the checkpoints: --run-dir DIR"),
    OrzName("load_checkpoint", "", "a run continues with --resume auto"),
    OrzName("tensorboard_log_dir", "logging.tensorboard", "the run folder holds the files"),
    OrzName("zero_stage", "cluster.zero_stage"),
    OrzName("colocate_all", "cluster.layout", "`colocated` or `split`"),
    OrzName("total_num_nodes", "cluster.num_gpus", "ORZ's nodes have one GPU each"),
    OrzName("actor_num_nodes", "cluster.policy_gpus", "`cluster.layout: split` only"),
    OrzName("ref_num_nodes", "cluster.policy_gpus", "the reference shares the policy's GPUs"),
    OrzName("critic_num_nodes", "cluster.critic_gpus", "`cluster.layout: split` only"),
    OrzName("vllm_num_engines", "cluster.num_engines"),
    OrzName("vllm_tensor_parallel_size", "cluster.tensor_parallel"),
    OrzName("gpu_memory_utilization", "cluster.gpu_memory_utilization"),
    OrzName("update_ref_every_epoch", "", "the reference stays the starting model"),
    OrzName("enforce_eager", "", "the generator decides"),
    OrzName("flash_attn", "", "the backend decides"),
    OrzName("adam_offload", "", "the backend decides"),
)

BY_ORZ_NAME = {name.orz: name for name in ORZ_NAMES}
