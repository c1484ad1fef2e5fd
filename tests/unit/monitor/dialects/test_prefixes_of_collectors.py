"""Every trainer's log is read the same behind what a collector of logs puts before each of its lines."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orz_monitor.dialects import known_dialects
from orz_monitor.entries import Event
from orz_monitor.loading import load_run
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks
from orz_monitor.transport.lines import Line
from orz_monitor.transport.prefixes import take_prefixes

pytestmark = pytest.mark.unit

MAY = datetime(2024, 5, 1, 10, tzinfo=UTC).timestamp()
LOCAL = datetime(2024, 5, 1, 10).timestamp()  # noqa: DTZ001 - a log without a zone has local times
PREFIXES = {
    "2024-05-01T10:00:00Z ": MAY,
    "2024-05-01T10:00:00.123456789Z ": MAY + 0.123456789,
    "2024-05-01T12:00:00.5+02:00 ": MAY + 0.5,
    "2024-05-01 04:30:00,25-0530 ": MAY + 0.25,
    "2024-05-01 10:00:00 ": LOCAL,
    "2024-05-01 10:00:00,123 ": LOCAL + 0.123,
    "2024-05-01 10:00:00,123 INFO ": LOCAL + 0.123,
    "[2024-05-01 10:00:00] ": LOCAL,
    "trainer-1  | ": None,
    "trainer      | ": None,
    "rl_train_2  | 2024-05-01T10:00:00.123456789Z ": MAY + 0.123456789,
    "Nov 27 03:31:41 host unit[123]: ": None,
    "Nov  7 03:31:41 gpu-4.site train@grpo.service[123]: ": None,
    "2024-05-01T12:00:00+0200 gpu-4 docker[9]: ": MAY,
}
RAY = "(TaskRunner pid=3) "
LOGURU = "2025-02-21 22:59:11.882 | INFO     | orz.ppo.trainer:train:173 - "
SAMPLES = {
    "orz": (
        "(PolicyRayActorBase pid=1) Actor Train epoch [1/1]:  50%|# | 1/2 [00:06<00:06,  6.57s/it, pg=0.1, kl=0.1]",
        LOGURU + "{'policy_loss': 0.5, 'return': 0.25}",
    ),
    "verl": (
        "step:3 - actor/pg_loss:0.5 - actor/lr:1e-06",
        RAY + "step:4 - actor/pg_loss:0.25 - actor/lr:1e-06",
        "(\"Initial validation metrics: {'val-core/gsm8k/acc/mean@1': 0.25,\"",
        " \" 'val-core/gsm8k/acc/mean@8': 0.5}\")",
        "(WorkerDict pid=9) rank 0 grad_norm is not finite: nan",
    ),
    "openrlhf": ("INFO 08-13 19:25:45 ppo_trainer.py:547] ✨ Global step 7: {'policy_loss': -0.0123, 'kl': 0.5}",),
    "nemo-rl": (
        "========================= Step 3/1000 =========================",
        "📊 Training Results:",
        "  • Loss: 0.0012",
        "  • Avg Reward: 0.4100",
        "",
    ),
    "skyrl": (
        "2025-09-01 10:00:00.000 | INFO     | skyrl_train.utils.utils:log:12 - Step 41: ",
        "{'generate/avg_num_tokens': '512.1234',",
        " 'trainer/global_step': 41}",
    ),
    "slime": (
        (
            "(MegatronTrainRayActor pid=7) [2026-09-04 01:00:00 actor_cell0_rank0] model.py:918 - step 4: "
            "{'train/loss': -0.01}"
        ),
        "step 5: {'train/loss': -0.5}",
    ),
    "prime-rl": (
        "13:51:09 SUCCESS Step 12 |   18.2s | Loss 0.0071 | Entropy 0.1870",
        "Step 13 | 13m 16s | Reward 0.7812 | Trainable 48/64 (75.0%)",
        "\t\t ╰─ math | Ratio 50.0% | Reward 0.5000",
    ),
    "areal": (
        "(AReaL) 20260725-13:51:09.653 StatsLogger INFO: Epoch 1/2 Step 3/23 Train step 3/46 done.",
        "(AReaL) 20260725-13:51:09.653 StatsLogger INFO: Stats (1/1):",
        "╒══════════════════════════════╤════════════╕",
        "│ ppo_actor/update/entropy/avg │ 2.2102e-01 │",
        "╘══════════════════════════════╧════════════╛",
    ),
    "roll": (
        '{"actor/pg_loss@sum": -0.0125, "critic/score/mean": 0.5}',
        "(RLVRPipeline pid=5) [2025-09-01 10:00:00] [rlvr_pipeline.py (512)] [INFO] [0 / 1] pipeline step 12 finished",
    ),
    "ms-swift": ("{'loss': 0.0125, 'kl': 0.5, 'global_step/max_steps': '5/3766', 'elapsed_time': '4m 10s'}",),
    "trl": ("{'loss': 0.0125, 'learning_rate': 1e-06, 'kl': 0.5, 'epoch': 0.01}",),
    "sb3": (
        "------------------------------------------",
        "| rollout/                |              |",
        "|    ep_rew_mean          | 187.5        |",
        "| time/                   |              |",
        "|    iterations           | 5            |",
        "------------------------------------------",
    ),
    "deepspeed": (
        (
            "[2025-02-22 10:11:12,345] [INFO] [logging.py:128:log_dist] [Rank 0] step=100, skipped=2, lr=[1e-06], "
            "mom=[(0.9, 0.95)]"
        ),
        "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768",
    ),
    "engines": (
        (
            "(LLMActor pid=9) INFO 02-24 10:13:50 metrics.py:455] Avg prompt throughput: 12.5 tokens/s, "
            "Running: 16 reqs, GPU KV cache usage: 92.1%"
        ),
        "[2026-09-04 01:00:00 TP0] Decode batch, #running-req: 128, token usage: 0.83, #queue-req: 12, ",
    ),
    "crashes": (
        "Traceback (most recent call last):",
        '  File "x.py", line 3, in f',
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
    ),
}


def read(lines: list[str]) -> Log:
    return read_chunks([("\n".join(lines) + "\n").encode()], dialects=known_dialects())


def said(log: Log) -> list[tuple[object, ...]]:
    rows = [(row.dialect, row.line, row.step, row.axis, row.keys, str(list(row.values))) for row in log.rows()]
    others = [(entry.dialect, entry.line, entry.event) for entry in log.entries if isinstance(entry, Event)]
    return [*rows, *others]


def test_there_is_a_sample_of_each_dialect() -> None:
    """One that is added comes into this matrix."""
    assert set(SAMPLES) >= {kind.name for kind in known_dialects()}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("dialect", SAMPLES)
def test_each_dialect_reads_what_is_behind_each_prefix(dialect: str, prefix: str) -> None:
    """Rows and events are those of the log without it; of a row that has no time of its own, it is the prefix's.

    A pass of a bar, whose frames come at many times, has none.
    """
    lines = [*SAMPLES[dialect], "saved"]
    if prefix.endswith("INFO "):
        lines = [line.lstrip() for line in lines]  # a logger pads its level
    plain, prefixed = read(lines), read([prefix + line for line in lines])
    assert said(prefixed) == said(plain)
    assert {entry.dialect for entry in (*plain.rows(), *plain.entries)} == {dialect}
    for before, after in zip(plain.rows(), prefixed.rows(), strict=True):
        time = PREFIXES[prefix] if before.time is None and before.bar is None else before.time
        assert after.time == (None if time is None else pytest.approx(time, rel=0, abs=1e-3))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_is_taken_off_and_nothing_behind_it(prefix: str) -> None:
    """What stands behind it is the same as alone, blanks at its beginning with it."""
    for line in (line for lines in SAMPLES.values() for line in lines if line):
        own, start = take_prefixes(line.encode())
        _, behind = take_prefixes((prefix + line).encode())
        blanks = len(line) - len(line.lstrip()) if prefix.endswith("INFO ") else 0  # a logger pads its level
        assert behind - len(prefix) == max(start, blanks)
        assert own is None or Line((prefix + line).encode()).segments[-1].place == own.place


@pytest.mark.parametrize(
    "line",
    [
        "step:3 - actor/pg_loss:0.5",
        "reward     | 0.5",
        "reward_1   | 0.5 | 0.25",
        "layer-2  | 1e-06",
        "| loss   | 0.5 |",
        "2024-05-01 | step 3 | loss 0.5",
        "2024-05-01 10:00:00 | step 3 | loss 0.5",
        "Nov 27 was a good day: loss=0.5",
        "May 3 1/2 [00:10<00:10]",
        "0  | model | Net | 1.2 M",
        "12:30 step=1",
    ],
)
def test_the_first_word_of_a_line_is_no_prefix(line: str) -> None:
    """Nothing is taken off."""
    assert take_prefixes(line.encode()) == (None, 0)


@pytest.mark.parametrize("before", ["2024-05-01 10:00:00,123 INFO ", "[2024-05-01 10:00:00 rank0] "])
def test_a_step_behind_a_logger_is_no_line_of_a_file(before: str) -> None:
    """`step:3` has the shape of a module's name and a line number; a file has an ending."""
    assert Line(f"{before}step:3 - a/b:0.5".encode()).segments[0].text == "step:3 - a/b:0.5"
    assert re.sub(r" -+ ?", "", Line(f"{before}worker.py:3 - text".encode()).segments[0].text) == "text"


def test_a_log_of_kubectl_has_canonical_names_and_times(tmp_path: Path) -> None:
    """`kubectl logs --timestamps`: verl's names, and steps that are ten seconds apart."""
    path = tmp_path / "pod.log"
    path.write_text(
        "".join(
            f"2024-05-01T10:00:{second}.123456789Z {RAY}step:{step} - actor/pg_loss:0.5 - critic/score/mean:0.25\n"
            for step, second in enumerate(("10", "20", "30"), start=1)
        )
    )
    run = load_run(path)
    assert run.framework == "verl"
    assert run.series("policy/loss").steps.tolist() == [1, 2, 3]
    assert run.coverage.num_missed_lines == 0
    assert run.last_progress == pytest.approx(MAY + 30.123456789, rel=0, abs=1e-3)
