"""Logs of other trainers, read as they grow: at any moment the same as reading the file so far at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orz_monitor.loading import load_run
from orz_monitor.tail.board import rows
from orz_monitor.tail.log_reader import LogReader

pytestmark = pytest.mark.unit


def orz_step(step: int) -> str:
    """Return what ORZ prints in a step: a critic's bar, whose loss is divided before it is printed, and a dict."""
    bar = [
        f"Critic Train epoch [1/1]:  {done}%|#| {done}/24 [00:0{done}<00:06,  6.57s/it, critic_loss=0.0{step + 1}, "
        "values=0.4, critic_lr=5e-6]"
        for done in (0, 1, 1, 2)
    ]
    when = "2025-02-21 22:59:0"
    rollouts = f"avg_raw_rewards: 0.{step}, avg_kl: 0.01, avg_response_length: 90{step}.5, avg_custom_rewards: 0.{step}"
    status = f"{{'policy_loss': 0.0{step}, 'actor_lr': 1e-06, 'clip_ratio': 0.0, 'entropy': 0.5, 'kl': 0.01}}"
    return "\n".join(
        [
            "(CriticRayActorBase pid=24258) " + "\r".join(bar),
            f"{when}5.882 | INFO     | orz.ppo.trainer:train:317 - {rollouts}",
            f"{when}7.882 | INFO     | orz.ppo.trainer:train:173 - {status}",
            f"Episode [1/20]:  11%|#| {step + 1}/445 [0{step}:55:57<58:14:56, 530.88s/it]",
            "",
        ]
    )


def test_a_value_that_was_rounded_to_nothing_is_not_called_zero(tmp_path: Path) -> None:
    """Old verl printed three digits: a learning rate of 1e-6 reads as 0.000."""
    reader = LogReader(tmp_path / "train.log", None)
    for step in range(1, 5):
        reader.feed(f"step:{step} - actor/lr:0.000 - actor/entropy_loss:0.{step}00 - actor/pg_loss:0.001\n".encode())
    (rate,) = [row for row in rows(reader.snapshot()) if row.name == "policy/lr"]
    assert "<5e-4" == rate.shown


VERL = "".join(
    f"\x1b[36m(TaskRunner pid=678203)\x1b[0m step:{step} - actor/pg_loss:np.float64(0.0{step}) - "
    f"critic/score/mean:0.{step} - actor/entropy:0.5 - perf/throughput:{900 + step}.5\n"
    for step in range(1, 8)
)
ORZ = "".join(orz_step(step) for step in range(5))
ANY = "".join(f"step: {step}, loss: 0.{step}, kl: 0.1, speed: {step}.5\n" for step in range(1, 8))
OVERFLOW = "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768\n"
ANY_ON_DEEPSPEED = OVERFLOW + ANY
ANY_WITH_LISTS = "".join(
    f"step: {i}, loss: 0.{i} 3, kl: 1\nbleu={i} chrf=4\nx=3, y=4\none{i}=3 b=4\n" for i in range(1, 8)
)


@pytest.mark.parametrize(
    "text",
    [VERL, ORZ, ANY, ANY_ON_DEEPSPEED, ANY_WITH_LISTS],
    ids=["verl", "orz", "any", "any above an engine", "lists"],
)
def test_pieces_equal_the_whole_and_looking_changes_nothing(tmp_path: Path, text: str) -> None:
    """A snapshot after each piece: the last one has what `load_run` reads from the file, line numbers included."""
    path = tmp_path / "train.log"
    path.write_text(text)
    reader = LogReader(path, None)
    for start in range(0, len(text.encode()), 173):
        reader.feed(text.encode()[start : start + 173])
        reader.snapshot()
    run, loaded = reader.snapshot(), load_run(path)
    assert loaded.framework == run.framework
    assert loaded.steps.tolist() == run.steps.tolist()
    assert len(run.steps)
    assert loaded.metrics.keys() == run.metrics.keys()
    assert loaded.lines == run.lines
    assert loaded.coverage == run.coverage
    for name, series in loaded.metrics.items():
        np.testing.assert_array_equal(series.steps, run.metrics[name].steps)
        # A mean that was put together from those of parts is rounded more often.
        np.testing.assert_allclose(series.values, run.metrics[name].values, rtol=1e-12)
