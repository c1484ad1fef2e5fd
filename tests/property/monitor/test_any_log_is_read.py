"""Whatever a log holds, every dialect reads it without an exception, in chunks of any size, and by the same rules."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orz_monitor.dialects import KNOWN, find_dialect
from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.log import Log, Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.property

PIECES = [
    "Train epoch [1/1]:  50%|█████     | 1/2 [00:06<00:06,  6.57s/it, act_loss=0.5, kl=0.01]",
    "✨ Global step 7: {'policy_loss': -0.0123, 'kl': np.float64(0.02)}",
    "✨ Evaluation completed in 0:03:12, global_step 10, eval_metrics: {'eval_gsm8k_pass1': 0.5}",
    "== Epoch 999999999/999999999 ==",
    "== Step 999999999/999999999 ==",
    "rollout 999999999999: {'rollout/raw_reward': 0.5}",
    "step 999999999999: {'train/loss': 0.5}",
    "✨ Global step 999999999999999: {'policy_loss': 0.5}",
    "========================= Step 3/1000 =========================",
    "📊 Training Results:",
    "  • generation: 4.95s (13.9%)",
    "Step 41: ",
    "{'generate/avg_num_tokens': '512.1234',",
    "Finished: 'generate', time cost: 12.34s",
    "rollout 3: {'rollout/raw_reward': 0.5}",
    "step 3: {'train/loss': -0.01, 'x': {'y': 1}}",
    "Timer actor_train end (elapsed: 12.5s)",
    "Step 12 | 13m 16s | Reward 0.7812 | Trainable 48/64 (75.0%)",
    '{"message": "Step 12 | 18.2s | Loss 0.5 | Throughput 5 tokens/s", "timestamp": "2026-07-25T13:51:09"}',
    "Dropping 3 non-finite value(s) from metrics.jsonl: optim/grad_norm, loss/mean",
    "(AReaL) 20260725-13:51:09.653 StatsLogger INFO: Epoch 1/2 Step 3/23 Train step 3/46 done.",
    "│ ppo_actor/update/entropy/avg │ 2.2102e-01 │ rollout/reward │ 2.6204e-01 │",
    '{"actor/pg_loss@sum": -0.0125, "actor/grad_norm": NaN}',
    "pipeline step 12 finished",
    "{'loss': 0.0125, 'learning_rate': 1e-06, 'global_step/max_steps': '5/3766'}",
    "[Rank 0] log_dist] [Rank 0] step=100, skipped=2, lr=[1e-06], mom=[(0.9, 0.95)]",
    "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768",
    "Engine 000: Avg prompt throughput: 0.0 tokens/s, Running: 1 reqs, GPU KV cache usage: 76.5%",
    "Decode batch, #running-req: 128, token usage: 0.83, #queue-req: 12, ",
    "| time/    |    |",
    "|    iterations    | 5    |",
    "----------------------------",
    "step:7 - actor/pg_loss:0.5 - actor/lr:1e-06",
    "\x1b[36m(TaskRunner pid=12)\x1b[0m ",
    "\r",
    "\x00",
    "((((" * 50,
]
LINES = st.lists(
    st.lists(
        st.tuples(st.sampled_from(PIECES), st.integers(0, 120), st.sampled_from(["", "é", "}", "nan", "9" * 400]))
        .map(lambda torn: torn[0][: torn[1]] + torn[2])
        .map(str.encode)
        | st.binary(max_size=12),
        max_size=3,
    ).map(b"".join),
    max_size=12,
).map(b"\n".join)


def read(chunks: list[bytes]) -> Log:
    log = read_chunks(chunks, dialects=[find_dialect(place) for place in KNOWN.values()])
    for place in KNOWN.values():
        kind = find_dialect(place)
        kind().number(log)
    return log


def place_of(row: Row) -> tuple[int, tuple[str, ...], int]:
    return row.line, row.keys, -1 if row.step is None else row.step


@settings(max_examples=40, deadline=None)
@given(LINES, st.integers(1, 400))
def test_any_log_is_read(data: bytes, size: int) -> None:
    """Rows hold as many values as keys and steps that are whole numbers, and chunks don't matter."""
    log = read([data])
    found = log.rows()
    assert all(len(row.keys) == len(row.values) for row in found)
    assert all(row.step is None or isinstance(row.step, int) for row in found)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert sorted(map(place_of, read(pieces).rows())) == sorted(
        map(place_of, found)
    )  # frames of bars are added batch by batch


@settings(max_examples=40, deadline=None)
@given(LINES)
def test_any_log_becomes_a_run_or_is_refused(data: bytes) -> None:
    """Steps are in order, each series has as many values as steps, and nothing but the refusal is raised."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "train.log"
        path.write_bytes(data)
        try:
            run = load_run(path)
        except UnreadableRunError:
            return
    for series in (*run.metrics.values(), *run.seconds.values()):
        assert len(series.steps) == len(series.values)
        assert (series.steps[1:] > series.steps[:-1]).all()


@pytest.mark.parametrize("place", KNOWN.values(), ids=KNOWN)
def test_whole_pieces_are_read_whatever_reads_them(place: str) -> None:
    """Each dialect alone reads the lines of all others without an exception."""
    data = "\n".join(PIECES * 3).encode()
    kind = find_dialect(place)
    log = read_chunks([data], dialects=[kind])
    kind().number(log)
    assert all(entry.dialect == kind.name for entry in log.entries)
