"""A step from scores to targets against plain Python, one rollout at a time, from the papers' sums."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orz_train.algorithm import GRPO, PPO
from orz_train.config.schema import Config
from orz_train.data.packing import Packing, pack, unpack
from orz_train.types import Estimates, FinishReason, PackedRow, Rollout, Score, ScoreStatus

pytestmark = pytest.mark.property


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One rollout with all that is known of it; of each action three numbers."""

    prompt_len: int
    group: int
    score: Score
    finish: FinishReason
    logprobs: list[float]
    ref_logprobs: list[float]
    values: list[float]
    value_after: float


@dataclass(frozen=True, kw_only=True)
class Settings:
    gamma: float
    lam: float
    truncation: str
    unscored: str
    normalize_std: bool
    whiten: bool
    kl_coef: float
    estimator: str


eighths = st.integers(-24, 24).map(lambda n: n / 8)


@st.composite
def sampled(draw: st.DrawFn) -> Sampled:
    num = draw(st.integers(0, 7))
    column = st.lists(eighths, min_size=num, max_size=num)
    status = draw(st.sampled_from([ScoreStatus.OK, ScoreStatus.OK, ScoreStatus.OK, ScoreStatus.TIMEOUT]))
    return Sampled(
        prompt_len=draw(st.integers(1, 4)),
        group=draw(st.integers(0, 2)),
        score=Score(reward=draw(eighths) if status is ScoreStatus.OK else 0.0, status=status),
        finish=draw(st.sampled_from(FinishReason)),
        logprobs=draw(column),
        ref_logprobs=draw(column),
        values=draw(column),
        value_after=draw(eighths),
    )


some_settings = st.builds(
    Settings,
    gamma=st.sampled_from([0.0, 0.9, 0.99, 1.0]),
    lam=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    truncation=st.sampled_from(["zero", "bootstrap", "mask"]),
    unscored=st.sampled_from(["exclude", "zero"]),
    normalize_std=st.booleans(),
    whiten=st.booleans(),
    kl_coef=st.sampled_from([0.0, 0.1]),
    estimator=st.sampled_from(["k1", "k2", "k3"]),
)


# --- in plain Python ------------------------------------------------------------------------------


def group_advantages(step: Sequence[Sampled], scored: Sequence[bool], *, normalize_std: bool) -> list[float]:
    """Compare each scored reward with its group's mean (DeepSeekMath, section 4.1.2); others get 0."""
    advantages = []
    for sample, ok in zip(step, scored, strict=True):
        group = [
            other.score.reward
            for other, counts in zip(step, scored, strict=True)
            if counts and other.group == sample.group
        ]
        if not ok or len(group) < 2:
            advantages.append(0.0)
            continue
        centred = sample.score.reward - statistics.mean(group)
        spread = statistics.stdev(group)
        advantages.append(0.0 if spread == 0 else centred / spread if normalize_std else centred)
    return advantages


def kl(logprob: float, ref: float, estimator: str) -> float:
    r = math.exp(ref - logprob)
    return {"k1": -math.log(r), "k2": math.log(r) ** 2 / 2, "k3": r - 1 - math.log(r)}[estimator]


def gae(rewards: Sequence[float], values: Sequence[float], after: float, gamma: float, lam: float) -> list[float]:
    """Sum (gamma * lam)^l * delta_{k+l}, as the paper writes it (equation 16), each action from the start."""
    nexts = [*values[1:], after]
    deltas = [r + gamma * following - v for r, v, following in zip(rewards, values, nexts, strict=True)]
    return [sum((gamma * lam) ** (m - k) * deltas[m] for m in range(k, len(deltas))) for k in range(len(deltas))]


def reference(step: Sequence[Sampled], cfg: Settings, *, grpo: bool) -> tuple[list[list[float]], list[list[float]]]:
    """Return advantages and returns of each rollout's actions; no rows, no tensors."""
    scored = [sample.score.status is ScoreStatus.OK or cfg.unscored == "zero" for sample in step]
    rewards = [sample.score.reward for sample in step]
    if grpo:
        rewards = group_advantages(step, scored, normalize_std=cfg.normalize_std)
    advantages, returns = [], []
    for sample, reward, ok in zip(step, rewards, scored, strict=True):
        truncated = sample.finish is FinishReason.LENGTH
        if not sample.logprobs or (truncated and cfg.truncation == "mask"):
            advantages.append([])
            returns.append([])
            continue
        values = [0.0] * len(sample.values) if grpo else sample.values
        paid = [
            -cfg.kl_coef * kl(p, q, cfg.estimator) for p, q in zip(sample.logprobs, sample.ref_logprobs, strict=True)
        ]
        paid[-1] += reward
        after = sample.value_after if truncated and cfg.truncation == "bootstrap" else 0.0
        estimate = gae(paid, values, after, cfg.gamma, cfg.lam)
        returns.append([a + v for a, v in zip(estimate, values, strict=True)] if ok else list(values))
        advantages.append(estimate if ok else [math.nan] * len(estimate))
    if cfg.whiten:
        pool = [a for row in advantages for a in row if not math.isnan(a)]
        mean, spread = (statistics.fmean(pool), statistics.pstdev(pool)) if pool else (0.0, 0.0)
        advantages = [[(a - mean) / spread if spread > 1e-5 else 0.0 * a for a in row] for row in advantages]
    return [[0.0 if math.isnan(a) else a for a in row] for row in advantages], returns


# --- the same through the trainer's parts ---------------------------------------------------------


def config_of(cfg: Settings, *, grpo: bool) -> Config:
    settings: dict[str, Any] = {
        "name": "reference",
        "steps": 1,
        "prompts_per_step": 3,
        "samples_per_prompt": 2,
        "algorithm": "grpo" if grpo else "ppo",
        "data": {"train": ["train.jsonl"]},
        "generation": {"max_response_tokens": 8},
        "reward": {"unscored": cfg.unscored},
        "policy": {"model": "base", "optimizer": {"lr": 1e-3}},
        "packing": {"max_tokens_per_row": 64},
        "kl": {"reward_coef": cfg.kl_coef, "estimator": cfg.estimator},
        "advantage": {
            "gamma": cfg.gamma,
            "lam": cfg.lam,
            "normalize_std": cfg.normalize_std,
            "whiten": cfg.whiten,
            "truncation": cfg.truncation,
        },
    }
    return Config.model_validate(settings)


def rollout_of(index: int, sample: Sampled) -> Rollout:
    return Rollout(
        rollout_id=str(index),
        prompt_id=str(sample.group),
        group_index=sample.group,
        token_ids=(1,) * (sample.prompt_len + len(sample.logprobs)),
        prompt_len=sample.prompt_len,
        sampler_logprobs=tuple(sample.logprobs),
        finish=sample.finish,
        policy_version=0,
        text="",
    )


def estimates_of(row: PackedRow, step: Sequence[Sampled], cfg: Settings, *, grpo: bool) -> Estimates:
    """Say what the models would have said; at prompts a number that must not be read."""
    inside = [step[index] for index in row.indices_S]

    def lay(name: str) -> torch.Tensor:
        return torch.tensor([x for sample in inside for x in [1e6] * sample.prompt_len + getattr(sample, name)])

    boots = [sample.value_after if sample.finish is FinishReason.LENGTH else 0.0 for sample in inside]
    return Estimates(
        logprobs_T=lay("logprobs"),
        ref_logprobs_T=lay("ref_logprobs") if cfg.kl_coef else None,
        values_T=None if grpo else lay("values"),
        bootstrap_values_S=torch.tensor(boots) if cfg.truncation == "bootstrap" else None,
    )


def packed(
    step: Sequence[Sampled], cfg: Settings, max_tokens: int, *, grpo: bool
) -> tuple[list[list[float]], list[list[float]]]:
    """Run shaped_rewards, pack and advantages; return advantages and returns of each rollout's actions."""
    algorithm = (GRPO if grpo else PPO)(config_of(cfg, grpo=grpo))
    rollouts = [rollout_of(index, sample) for index, sample in enumerate(step)]
    rewards_N, valid_N = algorithm.shaped_rewards(rollouts, [sample.score for sample in step])
    rows = pack(rollouts, Packing(max_tokens=max_tokens, mask_truncated=cfg.truncation == "mask"))
    estimates = [estimates_of(row, step, cfg, grpo=grpo) for row in rows]
    targets = algorithm.advantages(rows, rewards_N, valid_N, estimates)
    masks = unpack(rows, [row.action_mask_T for row in rows])

    def at_actions(tensors: list[torch.Tensor]) -> list[list[float]]:
        return [x_L[mask_L].tolist() for x_L, mask_L in zip(unpack(rows, tensors), masks, strict=True)]

    return at_actions([t.advantages_T for t in targets]), at_actions([t.returns_T for t in targets])


def check(expected: list[list[float]], actual: list[list[float]]) -> None:
    assert [len(row) for row in expected] == [len(row) for row in actual]
    flat = [x for row in actual for x in row]
    assert [x for row in expected for x in row] == pytest.approx(flat, rel=1e-4, abs=1e-4)


some_steps = st.lists(sampled(), min_size=1, max_size=9)


@settings(max_examples=200)
@given(some_steps, some_settings, st.integers(11, 60))
def test_ppo_is_the_papers_sums(step: list[Sampled], cfg: Settings, max_tokens: int) -> None:
    """Any rollouts, row size and settings: GAE, KL in the reward, truncation, unscored rollouts, whitening."""
    expected, actual = reference(step, cfg, grpo=False), packed(step, cfg, max_tokens, grpo=False)
    check(expected[0], actual[0])
    check(expected[1], actual[1])


@settings(max_examples=200)
@given(some_steps, some_settings.filter(lambda cfg: cfg.truncation != "bootstrap"), st.integers(11, 60))
def test_grpo_is_the_papers_sums(step: list[Sampled], cfg: Settings, max_tokens: int) -> None:
    """Likewise with group baselines and no critic."""
    check(reference(step, cfg, grpo=True)[0], packed(step, cfg, max_tokens, grpo=True)[0])


@given(some_steps, some_settings, st.integers(11, 60), st.booleans())
def test_row_size_changes_no_bit_before_whitening(
    step: list[Sampled], cfg: Settings, max_tokens: int, grpo: bool
) -> None:
    """Advantages and returns of a rollout are its own, whatever shares its row. Whitening sums in row order."""
    cfg = Settings(**{**vars(cfg), "whiten": False, "truncation": "zero"})
    assert packed(step, cfg, 200, grpo=grpo) == packed(step, cfg, max_tokens, grpo=grpo)
