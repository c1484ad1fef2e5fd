"""NeMo-RL's blocks: bulleted lines below a header that has the step."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.nemo_rl import NemoRl
from orz_monitor.loading import load_run
from orz_monitor.log import Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

BLOCK = """
========================= Step 3/1000 =========================
▶ Preparing batch...
▶ Generating responses for batch of size 512...
(VllmGenerationWorker pid=9) INFO 08-13 19:25:45 [loggers.py:257] Engine 000: nothing • Loss: 99.0

📊 Training Results:
  • Loss: 0.0012
  • Generation KL Error: -0.0010
  • Avg Reward: 0.4100
  • Mean Generation Length: 812.4000

⏱️  Timing:
  • Total step time: 35.70s
  • generation: 4.95s (13.9%)
  • policy_training: 20.00s (56.0%)

🔍 Performance Metrics:
  • Mean Total Tokens per Sample: 930.25
  • Training Worker Idle Time Ratio: 12.00%
  • Throughputs (per GPU):
    - E2E (Tokens/sec/gpu): 123.45
    - Generation Worker Group (Tokens/sec/gpu): 456.78
  • Training FLOPS: 12.50 TFLOPS (1.50 TFLOPS per rank)
"""
VALIDATION = """
▶ Starting validation at step 3...

📊 Validation Results:
    • Accuracy: 0.5120
    • Average response length: 700.5 tokens
    • Samples processed: 256

  ⏱️  Validation Timing:
    • Total validation time: 12.30s
"""


def rows(text: str) -> list[Row]:
    log = read_chunks([text.encode()], dialects=[NemoRl])
    NemoRl().number(log)
    return [entry for entry in log.entries if isinstance(entry, Row)]


def values(found: list[Row]) -> dict[str, float]:
    return {key: value for row in found for key, value in zip(row.keys, row.values, strict=True)}


def test_a_block_keeps_every_number_and_its_line() -> None:
    """Shares in parentheses are numbers too; the lines of workers are not of the block."""
    found = rows(BLOCK)
    assert {row.step for row in found} == {3}
    assert values(found) == pytest.approx(
        {
            "Loss": 0.0012,
            "Generation KL Error": -0.001,
            "Avg Reward": 0.41,
            "Mean Generation Length": 812.4,
            "timing/Total step time": 35.7,
            "timing/generation": 4.95,
            "timing/generation/aside": 0.139,
            "timing/policy_training": 20,
            "timing/policy_training/aside": 0.56,
            "Mean Total Tokens per Sample": 930.25,
            "Training Worker Idle Time Ratio": 0.12,
            "E2E (Tokens/sec/gpu)": 123.45,
            "Generation Worker Group (Tokens/sec/gpu)": 456.78,
            "Training FLOPS": 12.5e12,
            "Training FLOPS/aside": 1.5e12,
        }
    )
    lines = BLOCK.split("\n")
    assert all(row.keys[0].removeprefix("timing/") in lines[row.line - 1] for row in found)


def test_steps_go_on_over_epochs() -> None:
    """Headers count anew in each epoch: the second step of the second epoch of 10 is the twelfth."""
    text = (
        "========================= Epoch 1/2 =========================\n"
        "========================= Step 10/10 =========================\n📊 Training Results:\n  • Loss: 0.5\n"
        "========================= Epoch 2/2 =========================\n"
        "========================= Step 2/10 =========================\n📊 Training Results:\n  • Loss: 0.25\n"
    )
    assert [(row.step, row.values[0]) for row in rows(text)] == [(10, 0.5), (12, 0.25)]


def test_validations_have_an_axis_of_their_own() -> None:
    """They belong to the step they follow; one before all training to step 0."""
    found = rows(VALIDATION + BLOCK + VALIDATION)
    validations = [(row.step, row.keys[0]) for row in found if row.axis == "eval"]
    keys = [
        "validation/Accuracy",
        "validation/Average response length",
        "validation/Samples processed",
        "timing/Total validation time",
    ]
    assert validations == [(0, key) for key in keys] + [(3, key) for key in keys]


def test_hostile_bullets() -> None:
    """Torn, coloured and word-valued lines: numbers are taken where they are whole, and nothing else."""
    found = rows(
        "== Step 1/2 ==\n📊 Training Results:\n\x1b[32m  • Loss: nan\x1b[0m\n  • Avg Reward: 0.4\x00\n"
        "  • Note: Nothing\n  • : 5\n  •\n  • Loss\n  • " + "x" * 5000 + ": 5\n  • Avg Reward: inf\n"
    )
    assert [row.keys for row in found] == [("Loss",), ("Avg Reward",)]
    assert str(found[0].values[0]) == "nan"
    assert found[1].values[0] == float("inf")


def test_a_run_has_canonical_names(tmp_path: Path) -> None:
    """Phases and evaluations are where rules look for them."""
    path = tmp_path / "train.log"
    path.write_text(BLOCK + VALIDATION, encoding="utf-8")
    run = load_run(path)
    assert run.framework == "nemo-rl"
    assert run.metrics["reward/mean"].values.tolist() == [0.41]
    assert run.metrics["eval/validation/accuracy"].steps.tolist() == [3]
    assert run.metrics["idle/trainer_frac"].values.tolist() == pytest.approx([0.12])
    assert run.seconds["train_policy"].values.tolist() == [20]
    assert run.seconds["eval"].values.tolist() == [12.3]
