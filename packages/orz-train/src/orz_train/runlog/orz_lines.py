"""One step in the line shapes and keys of Open-Reasoner-Zero, so that eyes and parsers trained on it feel at home.

The shapes are tqdm's bars and the trainer's own lines. Each number is a true mean, where ORZ's `ret` is divided
twice, its `critic_loss` by the number of micro-batches, and its lengths are means of means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from orz_train.runlog.text import clock
from orz_train.types import StepReport

_BAR_CELLS = 10
_BLOCKS = " ▏▎▍▌▋▊▉█"
_ACTOR_POSTFIX = {
    "pg": "policy/loss",
    "ret": "return/mean",
    "glen": "rollout/response_tokens_mean",
    "tlen": "rollout/total_tokens_mean",
    "kl": "policy/kl_ref",
    "act_lr": "policy/lr",
    "ent": "policy/entropy",
}
_CRITIC_POSTFIX = {"critic_loss": "critic/loss", "values": "critic/value_mean", "critic_lr": "critic/lr"}
_STATUS = {
    "policy_loss": "policy/loss",
    "actor_lr": "policy/lr",
    "clip_ratio": "policy/clip_frac",
    "entropy": "policy/entropy",
    "kl": "policy/kl_ref",
    "response_length": "rollout/response_tokens_mean",
    "total_length": "rollout/total_tokens_mean",
    "return": "return/mean",
    "policy_update_steps": "policy/updates",
}
_TIMERS = {
    "generate": "Generate sequences",
    "reward": "Calculate custom rewards",
    "score": "Inference and calculate values, log probs, rewards, kl divergence",
    "train_critic": "Critic model training",
    "train_policy": "Actor model training",
    "sync": "Broadcast actor weights",
    "eval": "Evaluation",
    "save": "Save checkpoint",
}


def timers(seconds: Mapping[str, float]) -> list[str]:
    """Return a line for each phase: `Critic model training, time cost: 2.91s`."""
    return [f"{message}, time cost: {seconds[phase]:.2f}s" for phase, message in _TIMERS.items() if phase in seconds]


def rollout_summary(metrics: Mapping[str, float]) -> str:
    """Return the line that holds the mean reward, `avg_custom_rewards`."""
    shown = {
        "avg_raw_rewards": metrics.get("return/mean"),
        "avg_kl": metrics.get("policy/kl_ref", 0.0),
        "avg_response_length": metrics.get("rollout/response_tokens_mean"),
        "avg_custom_rewards": metrics.get("reward/mean"),
    }
    return ", ".join(f"{key}: {value}" for key, value in shown.items() if value is not None)


def evaluation(accuracies: Mapping[str, float]) -> str:
    """Return the line of an evaluation: the accuracy of each set, then their plain mean."""
    shown = {f"{name}/accuracy": value for name, value in accuracies.items()}
    shown["eval_accuracy"] = sum(accuracies.values()) / len(accuracies) if accuracies else math.nan
    return ",".join(f"{key}: {value:.4f}" for key, value in shown.items())


def critic_bar(report: StepReport, *, epochs: int) -> str:
    """Return the critic's training bar; empty where none was trained."""
    postfix = _postfix(report.metrics, _CRITIC_POSTFIX)
    return _training_bar("Critic", _updates(report, "critic"), epochs, report.seconds.get("train_critic"), postfix)


def actor_bar(report: StepReport, *, epochs: int) -> str:
    """Return the policy's training bar; empty where it was frozen."""
    postfix = _postfix({"policy/kl_ref": 0.0, **report.metrics}, _ACTOR_POSTFIX)
    return _training_bar("Actor", _updates(report, "policy"), epochs, report.seconds.get("train_policy"), postfix)


def status(report: StepReport) -> str:
    """Return the status dictionary as Python writes it; while the policy is frozen, `None`."""
    if not _updates(report, "policy"):
        return "None"
    metrics = {"policy/kl_ref": 0.0, **report.metrics}
    return repr({key: float(metrics[name]) for key, name in _STATUS.items() if name in metrics})


def episode_bar(step: int, *, num_steps: int, steps_per_episode: int, elapsed_s: float, num_timed: int) -> str:
    """Return the bar of training steps within their episode.

    Args:
        step: the step that is done, from 1.
        num_steps: of the run.
        steps_per_episode: of one pass over the prompts.
        elapsed_s: seconds that the episode has taken.
        num_timed: steps that these seconds are of.
    """
    episode, before = divmod(step - 1, steps_per_episode)
    num_episodes = max(episode + 1, math.ceil(num_steps / steps_per_episode))
    total = min(steps_per_episode, max(num_steps - episode * steps_per_episode, before + 1))
    label = f"Episode [{episode + 1}/{num_episodes}]"
    return bar(label, before + 1, total, elapsed_s, num_timed=num_timed)


def bar(
    label: str, done: int, total: int, elapsed_s: float | None, *, num_timed: int | None = None, postfix: str = ""
) -> str:
    """Return a tqdm bar: `Episode [1/20]:  11%|█         | 50/445 [6:55:57<54:46:00, 499.14s/it]`.

    Args:
        label: what stands in front of it.
        done: items done.
        total: items in all.
        elapsed_s: seconds since it began; None where unknown.
        num_timed: items that these seconds are of; `done` by default.
        postfix: further `key=value` pairs.
    """
    filled = _BAR_CELLS * 8 * done // total
    whole, eighths = divmod(filled, 8)
    cells = ("█" * whole + (_BLOCKS[eighths] if eighths else "")).ljust(_BAR_CELLS)
    timed = done if num_timed is None else num_timed
    per_item = elapsed_s / timed if elapsed_s and timed else None
    remaining = clock2(per_item * (total - done)) if per_item is not None else "?"
    tail = ", ".join(part for part in (_rate(per_item), postfix) if part)
    times = f"{clock2(elapsed_s or 0.0)}<{remaining}"
    return f"{label}: {100 * done / total:3.0f}%|{cells}| {done}/{total} [{times}, {tail}]"


def short(value: float) -> str:
    """Write a number as tqdm does: three digits, or in full where that is no longer.

    Example:
        >>> short(1234.567), short(1e-6), short(812.0)
        ('1.23e+3', '1e-6', '812')
    """
    rounded = f"{value:.3g}"
    for sign in "+-":
        rounded = rounded.replace(f"e{sign}0", f"e{sign}")
    full = str(value)
    return rounded if len(rounded) < len(full) else full


def clock2(seconds: float) -> str:
    """Write a duration as tqdm does, `mm:ss` at least."""
    return clock(math.floor(seconds) if math.isfinite(seconds) else None).zfill(len("00:00"))


def _training_bar(role: str, updates: int, epochs: int, elapsed_s: float | None, postfix: str) -> str:
    label = f"{role} Train epoch [{epochs}/{epochs}]"
    return bar(label, updates, updates, elapsed_s, postfix=postfix) if updates else ""


def _rate(per_item: float | None) -> str:
    if per_item is None:
        return "?it/s"
    return f"{per_item:5.2f}s/it" if per_item > 1 else f"{1 / per_item:5.2f}it/s"


def _updates(report: StepReport, role: str) -> int:
    """Count a role's optimizer steps; one that reports a loss but no count has taken one."""
    present = f"{role}/loss" in report.metrics
    return int(report.metrics.get(f"{role}/updates", 1.0 if present else 0.0))


def _postfix(metrics: Mapping[str, float], keys: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={short(metrics[name])}" for key, name in keys.items() if name in metrics)
