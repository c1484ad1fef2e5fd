"""Which step has all its metrics: the newest of a log that grows often has not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orz_monitor.records import EventRecord
from orz_monitor.run import Run
from orz_monitor.tail.key_metrics import last_complete, values_at
from orz_monitor.tail.log_reader import LogReader
from orz_monitor.tail.records_reader import RecordsReader
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


def orz_lines(step: int) -> list[str]:
    """Return what ORZ prints in a step: generation, rollouts, then minutes later the dictionary."""
    rollouts = f"avg_raw_rewards: 0.{step}, avg_kl: 0.01, avg_response_length: 90{step}.5, avg_custom_rewards: 0.{step}"
    status = f"{{'policy_loss': 0.0{step + 1}, 'actor_lr': 1e-06, 'clip_ratio': 0.0, 'entropy': 0.5, 'kl': 0.01}}"
    when = f"2025-02-21 2{step}:59:0"
    return [
        f"{when}1.882 | INFO     | orz.ppo.trainer:make_experience:227 - start generation",
        f"{when}2.882 | INFO     | orz.utils:__exit__:99 - Generate sequences via vllm engines, time cost: 60.00s",
        f"{when}3.882 | INFO     | orz.ppo.trainer:make_experience:317 - {rollouts}",
        f"{when}7.882 | INFO     | orz.ppo.trainer:train:173 - {status}",
    ]


def complete_after_each(reader: LogReader, lines: list[str]) -> list[int | None]:
    """Feed lines, and return which step was complete after each."""
    found = []
    for line in lines:
        reader.feed(line.encode() + b"\n")
        found.append(last_complete(reader.snapshot()))
    return found


def test_a_step_that_comes_in_pieces_is_complete_with_its_last_piece(tmp_path: Path) -> None:
    """ORZ: the second step with its dictionary; the first one, with which nothing can be compared, when that begins."""
    reader = LogReader(tmp_path / "train.log", None)
    assert [None, None, None, None] == complete_after_each(reader, orz_lines(0))
    assert [None, 0, 0, 1] == complete_after_each(reader, orz_lines(1))
    assert [1, 1, 1, 2] == complete_after_each(reader, orz_lines(2))
    run = reader.snapshot()
    values = {"reward": "0.2", "pg": "0.03", "kl": "0.01", "ent": "0.5", "len": "902", "lr": "1e-6"}
    assert values == dict(values_at(run, 2))


def test_a_metric_that_is_logged_now_and_then_is_waited_for(tmp_path: Path) -> None:
    """One that one of the five steps before had may still come; after five without it, it does not."""
    reader = LogReader(tmp_path / "train.log", None)
    lines = [f"step: {step}, loss: 0.5, kl: 0{', entropy: 0.1' if step == 2 else ''}" for step in range(9)]
    assert [None, None, 2, 2, 3, 4, 5, 6, 8] == complete_after_each(reader, lines)


def openrlhf_bar(step: int, done: int) -> str:
    return (
        f"(PolicyModelActor pid=71) Train epoch [1/1]:  50%|#####     | {done}/2 [00:06<00:06,  6.57s/it, "
        f"act_loss=0.{step}{done}, reward=0.25, kl=0.01, act_lr=1e-6]"
    )


def test_a_bar_completes_no_step(tmp_path: Path) -> None:
    """More frames may come: OpenRLHF's dictionary ends a step, and in a log of bars alone the next step does."""
    reader = LogReader(tmp_path / "train.log", None)
    said = "INFO 08-13 19:25:45 ppo_trainer.py:547] Global step {}: {{'policy_loss': -0.01, 'reward': 0.5}}"
    lines = [line for i in (1, 2, 3) for line in (openrlhf_bar(i, 1), openrlhf_bar(i, 2), said.format(i))]
    assert [None, None, None, 1, 1, 2, 2, 2, 3] == complete_after_each(reader, lines)
    bars = LogReader(tmp_path / "bars.log", None)
    frames = [openrlhf_bar(step, done) for step in (1, 2, 3) for done in (1, 2)]
    assert [None, None, 1, 1, 2, 2] == complete_after_each(bars, frames)


def test_a_step_that_comes_at_once_is_complete(tmp_path: Path) -> None:
    """Lines of verl and records of ours, the first one, too."""
    reader = LogReader(tmp_path / "train.log", None)
    assert [1, 2] == complete_after_each(reader, [f"step:{step} - actor/pg_loss:0.5" for step in (1, 2)])
    written = write_run(tmp_path, step_records(healthy_metrics(1)), finished=False)
    records = RecordsReader(written / "metrics.jsonl", written)
    records.feed((written / "metrics.jsonl").read_bytes())
    assert 0 == last_complete(records.snapshot())


def ended(run: Run, event: str) -> Run:
    return replace(run, events=(*run.events, EventRecord(event=event, time=START)))


def test_a_run_that_is_over_has_no_more_to_come(tmp_path: Path) -> None:
    """Its last step is what it will be; a run without a step has none."""
    reader = LogReader(tmp_path / "train.log", None)
    assert None is last_complete(ended(reader.snapshot(), "finish"))
    complete_after_each(reader, [*orz_lines(0), *orz_lines(1)[:2]])
    assert [1, 1, 1] == [last_complete(ended(reader.snapshot(), event)) for event in ("finish", "error", "interrupted")]
