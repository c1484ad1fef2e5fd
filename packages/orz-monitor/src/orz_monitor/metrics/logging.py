"""How to get a metric that is not logged."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from orz_monitor.dialects import KNOWN, find_dialect

_ENGINE: Final = "keep the engine's own lines in the log (vLLM: `disable_log_stats=False`; SGLang prints them)"
_ORZ_PLAYGROUND: Final = "recipes in ORZ's playground/ print it; keep the driver's console log"
_HOW: Final[Mapping[tuple[str, str], str]] = {
    ("orz-train", "policy/kl_ref"): "set `kl.loss_coef` or `kl.reward_coef` above 0; without, no reference is loaded",
    ("orz-train", "critic/explained_var"): "only an algorithm with a critic has it: `algorithm.kind=ppo`",
    ("orz-train", "staleness/max"): "nothing to do: orz-train samples from the newest weights",
    (
        "orz",
        "policy/grad_norm",
    ): "ORZ never logs it; add the engine's `get_global_grad_norm()` to `status` in actors.py",
    ("orz", "rollout/truncated_frac"): f"`avg_non_stop_count`: {_ORZ_PLAYGROUND}",
    ("orz", "rollout/repetition"): f"`avg_repeat_score`: {_ORZ_PLAYGROUND}",
    ("orz", "rollout/zero_variance_frac"): "reckon it from the scores in `dumped_replay_buffer/`",
    ("orz", "reward/std"): "its TensorBoard files have a histogram of the rewards",
    ("orz", "critic/explained_var"): "ORZ never logs it; add 1 - Var(return - value) / Var(return) in actors.py",
    ("orz", "policy/ratio_max"): "nothing to do with one update a batch: the ratio is 1",
    ("verl", "policy/kl_ref"): "set `actor_rollout_ref.actor.use_kl_loss=True` or `algorithm.use_kl_in_reward=True`",
    ("verl", "mismatch/logprob_abs_mean"): "set `actor_rollout_ref.rollout.calculate_log_probs=True`",
    (
        "verl",
        "rollout/zero_variance_frac",
    ): "dump samples with `trainer.rollout_data_dir` and reckon it from the scores",
    ("verl", "reward/std"): "dump samples with `trainer.rollout_data_dir` and reckon it from the scores",
    ("trl", "policy/kl_ref"): "set `beta` above 0; without, TRL loads no reference",
    ("trl", "mismatch/logprob_abs_mean"): "set `use_vllm=True` and `vllm_importance_sampling_correction=True`",
    ("trl", "policy/clip_frac"): "TRL's GRPO logs `clip_ratio/*`; older versions log `clip_ratio`",
    ("openrlhf", "mismatch/kl_k1"): "give `--algo.advantage.is_correction_enable`",
    ("openrlhf", "rollout/zero_variance_frac"): "give `--algo.dynamic_filtering_enable`",
    ("prime-rl", "policy/kl_ref"): "prime-rl has no reference",
}
"""Trainer and metric to what to do."""
_ANYWHERE: Final[Mapping[str, str]] = {
    "eval/": "evaluate on held-out prompts now and then",
    "engine/": _ENGINE,
    "balance/": "log tokens by rank",
}
"""How a metric's name begins to what to do with any trainer."""


def how_to_log(metric: str, framework: str, hints: Mapping[str, str] = MappingProxyType({})) -> str:
    """Say how a trainer can be made to log a metric; empty where that is not known.

    Args:
        metric: canonical name.
        framework: the trainer, as `Run.framework` has it.
        hints: what the dialect that read the log says, as `Run.hints` has it.

    Example:
        >>> how_to_log("policy/kl_ref", "trl")
        'set `beta` above 0; without, TRL loads no reference'
    """
    anywhere = next((text for start, text in _ANYWHERE.items() if metric.startswith(start)), "")
    return _HOW.get((framework, metric)) or _by_dialect(metric, framework, hints) or anywhere


def _by_dialect(metric: str, framework: str, hints: Mapping[str, str]) -> str:
    """Return what the dialect of a trainer says of a metric that it does not log by itself; empty for what it does."""
    if not hints and framework in KNOWN:  # read from a store
        hints = find_dialect(KNOWN[framework]).missing
    return hints.get(metric, "").removesuffix(".")
