"""What trainers log of held-out prompts, and of the phases of a step, under the names of their own sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.run import Run

pytestmark = pytest.mark.unit

STEP: Final = (
    " {step}%|▍         | {step}/200 [03:00<1:04:17, 20.20s/it]{{'loss': 0.01, 'grad_norm': 0.3{step}, "
    "'learning_rate': 1e-06, 'reward': {reward:.4f}, 'reward_std': 0.3, 'completions/mean_length': 300.0{more}}}\n"
)


def read(folder: Path, text: str) -> Run:
    path = folder / "train.log"
    path.write_text(text, encoding="utf-8")
    return load_run(path)


def trl(evaluations: Sequence[Mapping[str, float]], *, every: int = 10, scale: float = 1.0, more: str = "") -> str:
    """Return a log of TRL whose reward rises from 0.3 to 0.7, with an evaluation after every few steps."""
    num = every * len(evaluations)
    lines = []
    for index in range(num):
        reward = scale * (0.3 + 0.4 * index / num + 0.004 * (index % 3))
        lines.append(STEP.format(step=index + 1, reward=reward, more=more))
        if index % every == every - 1:
            lines.append(f"{dict(evaluations[index // every])}\n")
    return "".join(lines)


def evaluated(*rewards: float) -> list[dict[str, float]]:
    return [
        {"eval_loss": 0.01, "eval_reward": reward, "eval_rewards/acc/mean": reward, "eval_runtime": 3.0}
        for reward in rewards
    ]


def test_the_evaluation_of_trl_is_read(tmp_path: Path) -> None:
    """The reward of all functions, that of each, lengths and truncation, of one set or of several with names."""
    found = {
        "eval_reward": 0.5,
        "eval_reward_std": 0.4,
        "eval_rewards/acc/mean": 0.6,
        "eval_rewards/acc/std": 0.3,
        "eval_completions/mean_length": 310.0,
        "eval_completions/clipped_ratio": 0.05,
        "eval_hard_set_reward": 0.2,
        "eval_hard_set_rewards/acc/mean": 0.25,
        "eval_runtime": 3.0,
    }
    run = read(tmp_path, trl([found]))
    assert {
        "eval/validation/accuracy": ([10], [0.5]),
        "eval/validation/part/acc": ([10], [0.6]),
        "eval/validation/response_tokens_mean": ([10], [310.0]),
        "eval/validation/truncated_frac": ([10], [0.05]),
        "eval/hard_set/accuracy": ([10], [0.2]),
        "eval/hard_set/part/acc": ([10], [0.25]),
    } == {
        name: (series.steps.tolist(), series.values.tolist())
        for name, series in run.metrics.items()
        if name.startswith("eval/")
    }
    assert {"eval_reward_std", "eval_rewards/acc/std"} <= set(run.metrics)


def test_what_preferences_log_is_no_reward_of_a_function(tmp_path: Path) -> None:
    """The rewards of DPO's chosen and rejected answers keep their names."""
    run = read(tmp_path, trl([{"eval_rewards/chosen": 0.4, "eval_rewards/accuracies": 0.6, "eval_runtime": 1.0}]))
    assert {"eval_rewards/chosen", "eval_rewards/accuracies"} <= set(run.metrics)
    assert [] == [name for name in run.metrics if name.startswith("eval/")]


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_an_evaluation_that_falls_while_the_reward_rises(tmp_path: Path, scale: float) -> None:
    """From 0.56 to 0.2 of the scale is a gap; by a hundredth of it is none, however large rewards are."""
    falls = [scale * value for value in (0.5, 0.56, 0.5, 0.4, 0.3, 0.25, 0.2, 0.18)]
    codes = {finding.code for finding in judge(read(tmp_path, trl(evaluated(*falls), scale=scale))).findings}
    assert "eval_gap" in codes
    assert "invariants" not in codes
    steady = [scale * value for value in (0.5, 0.505, 0.5, 0.498, 0.5, 0.497, 0.495, 0.495)]
    codes = {finding.code for finding in judge(read(tmp_path, trl(evaluated(*steady), scale=scale))).findings}
    assert "eval_gap" not in codes


def test_a_reward_below_zero_is_possible(tmp_path: Path) -> None:
    """What a trainer logs as its held-out reward is no share."""
    verdict = judge(read(tmp_path, trl(evaluated(-1.5, -1.2, -1.0, -0.9, -0.8))))
    assert [-1.5, -1.2, -1.0, -0.9, -0.8] == verdict.run.metrics["eval/validation/accuracy"].values.tolist()
    assert "invariants" not in {finding.code for finding in verdict.findings}


def test_phases_and_throughput_of_trls_asynchronous_trainer(tmp_path: Path) -> None:
    """`forward_time_s`, `weight_sync_time_s` and `training_tok/s`, and the clip ratio of CISPO."""
    more = ", 'training_tok/s': 326.8, 'forward_time_s': 4.25, 'weight_sync_time_s': 5.186, 'cispo_clip_ratio': 0.02"
    run = read(tmp_path, trl([{"eval_runtime": 1.0}], more=more))
    assert {4.25} == set(run.seconds["train_policy"].values)
    assert {5.186} == set(run.seconds["sync"].values)
    assert {326.8} == set(run.metrics["tokens/per_second"].values)
    assert {0.02} == set(run.metrics["policy/clip_frac"].values)


def test_the_best_of_k_of_verl(tmp_path: Path) -> None:
    """Of several the largest k is the set's; the others keep their names, and the mean is the accuracy."""
    sets = (
        "val-core/openai/gsm8k/acc/mean@4:0.5 - val-core/openai/gsm8k/acc/best@4/mean:0.7 - "
        "val-aux/openai/gsm8k/acc/best@2/mean:0.6 - val-aux/openai/gsm8k/acc/maj@4/mean:0.55 - "
        "val-aux/openai/gsm8k/reward/best@4/mean:0.65"
    )
    run = read(tmp_path, f"step:1 - actor/pg_loss:0.5 - critic/score/mean:0.3 - {sets}\n")
    assert [0.7] == run.metrics["eval/openai-gsm8k/pass_at_k"].values.tolist()
    assert [0.5] == run.metrics["eval/openai-gsm8k/accuracy"].values.tolist()
    others = {"acc/best@2/mean": 0.6, "acc/maj@4/mean": 0.55, "reward/best@4/mean": 0.65}
    assert others == {key: run.metrics[f"val-aux/openai/gsm8k/{key}"].values[0] for key in others}


def test_pass_at_k_of_skyrl_and_prime_rl(tmp_path: Path) -> None:
    """At 1 it is the accuracy where no other is logged; at more it is that of k samples."""
    text = (
        "2026-09-04 01:00:01.000 | INFO     | skyrl:log:1 - Step 1: \n"
        "{'eval/aime/pass_at_1': '0.2000',\n 'eval/aime/pass_at_8': '0.6000'}\n"
    )
    run = read(tmp_path, text)
    assert [0.2] == run.metrics["eval/aime/accuracy"].values.tolist()
    assert [0.6] == run.metrics["eval/aime/pass_at_k"].values.tolist()
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "time": 10.0, "reward/mean": 0.5, "batch/solve_none": 0.2, "eval/aime/avg@8": 0.3, '
        '"eval/aime/pass@8": 0.7, "decode_len/mean": 512.0, "seq_len/mean": 700.0, "off_policy/max": 2}\n'
    )
    run = load_run(path)
    assert [0.7] == run.metrics["eval/aime/pass_at_k"].values.tolist()
    assert [0.3] == run.metrics["eval/aime/accuracy"].values.tolist()
    assert [512.0] == run.metrics["rollout/response_tokens_mean"].values.tolist()
    assert [700.0] == run.metrics["rollout/total_tokens_mean"].values.tolist()
