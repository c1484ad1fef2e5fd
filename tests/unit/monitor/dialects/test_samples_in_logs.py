"""What a model was asked and what it said adds nothing to the log of a trainer that prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.loading import load_run
from orz_monitor.run import Run
from orz_monitor.tail.log_reader import LogReader

pytestmark = pytest.mark.unit

SAMPLES = [
    'response: {"loss": 900}',
    "response: {'loss': 900, 'learning_rate': 3, 'reward': 4}",
    "Answer: loss = 3, reward = 4",
    "[response] Step 7: loss = 3, reward = 4, grad_norm = 5",
    "The output is {'loss': 900, 'grad_norm': 3, 'learning_rate': 5e-5, 'epoch': 1.0}",
    "Model answer 3: step 7 | loss 3 | reward 4",
    "<assistant> step 7 | loss 3 | reward 4",
]
TRAINERS = {
    "verl": "step:@ - actor/pg_loss:0.5 - actor/entropy:0.25",
    "orz": "2025-02-21 21:59:07.882 | INFO     | orz.ppo.trainer:train:173 - "
    "{'policy_loss': 0.5, 'actor_lr': 1e-06, 'clip_ratio': 0.0, 'entropy': 0.5, 'kl': 0.01}",
    "trl": "{'loss': 0.5, 'grad_norm': 0.5, 'learning_rate': 1e-6, 'reward': 0.5, 'kl': 0.1, 'epoch': 0.@}",
    "generic": "step @ | loss 0.5 | reward 0.25",
}


def values(run: Run) -> dict[str, tuple[list[int], list[float]]]:
    return {name: (series.steps.tolist(), series.values.tolist()) for name, series in run.metrics.items()}


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_samples_add_no_row(tmp_path: Path, trainer: str, sample: str) -> None:
    """The series are those of the log without them, read at once and as it grows; a sample may come before any step."""
    path = tmp_path / "train.log"
    lines = [TRAINERS[trainer].replace("@", str(step)) for step in (1, 2, 3, 4)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = values(load_run(path))
    text = "".join(f"{sample}\n{line}\n{sample}\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    run = load_run(path)
    assert (run.framework, values(run)) == (trainer, expected)
    reader = LogReader(path, None)
    for start in range(0, len(text), 37):
        reader.feed(text[start : start + 37].encode())
    assert values(reader.snapshot()) == expected


@pytest.mark.parametrize(
    "line",
    [
        "step 5: response: 512 tokens, loss 0.5",
        "response length: 512 loss: 0.5",
        "answers: 3 loss: 0.5",
        "train metrics {'loss': 0.5}",
    ],
)
def test_numbers_of_responses_are_metrics(tmp_path: Path, line: str) -> None:
    """Where a number stands behind the word, or another word between them."""
    path = tmp_path / "train.log"
    path.write_text("".join(f"step {step} | loss 0.25 | reward 0.25\n" for step in (1, 2, 3, 5)) + line + "\n")
    assert load_run(path).metrics["policy/total_loss"].values.tolist() == [0.25, 0.25, 0.25, 0.5]
