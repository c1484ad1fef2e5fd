"""Wherever a file is cut into parts, what is read of them is what one reader reads of the whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orz_monitor import parts
from orz_monitor.dialects import find_dialect, known_dialects
from orz_monitor.entries import Event, Row, Tick
from orz_monitor.log import Log
from orz_monitor.reading import Reader, read_chunks

pytestmark = pytest.mark.property

RAY = "(TaskRunner pid=3) "
LOGURU = "2025-02-21 22:59:11.882 | INFO     | orz.ppo.trainer:train:173 - "
AREAL = "(AReaL) 20260725-13:51:09.653 StatsLogger INFO: "
BLOCKS: dict[str, Callable[[int], list[str]]] = {
    "orz": lambda step: [
        "--- config key ---",
        f"(PolicyRayActorBase pid=1) Actor Train epoch [1/1]:  50%|# | 1/2 [00:06<00:06,  6.57s/it, pg=0.{step}, kl=1]",
        LOGURU + f"{{'policy_loss': {step}.5}}",
        f"Episode [1/9]: {step}%|# | {step}/99 [00:06<00:06,  6.57s/it]",
    ],
    "verl": lambda step: [
        RAY + f"step:{step} - actor/pg_loss:0.{step} - actor/lr:1e-06",
        f"(WorkerDict pid=9) rank 0 grad_norm is not finite: nan ({step})",
        RAY + f"step:{step} - actor/pg_loss:0.5 - ",
        RAY + f"actor/lr:0.{step} -",
        RAY + "actor/entropy_loss:0.5",
        RAY + f"(\"Initial validation metrics: {{'val-core/gsm8k/acc/mean@1': 0.{step},\"",
        "(RewardManager pid=8) scored",
        RAY + f" \" 'val-core/gsm8k/acc/mean@8': 0.5{step}}}\")",
    ],
    "verl alone": lambda step: [f"step:{step} - actor/pg_loss:0.{step} - actor/lr:1e-06"],
    "nemo-rl": lambda step: [
        f"========================= Step {step}/1000 =========================",
        "📊 Training Results:",
        f"  • Loss: 0.{step}",
        (
            "(VllmGenerationWorker pid=9) INFO 08-13 19:25:45 metrics.py:455] Avg prompt throughput: 1.5 tokens/s, "
            "Running: 16 reqs, GPU KV cache usage: 92.1%"
        ),
        "  • Avg Reward: 0.4100",
        "⏱️  Timing:",
        "  • Total step time: 35.70s",
    ],
    "skyrl": lambda step: [
        f"2025-09-01 10:00:00.000 | INFO     | skyrl_train.utils.utils:log:12 - Step {step}: ",
        f"{{'generate/avg_num_tokens': '{step}.5',",
        "(FSDPPolicyWorker pid=43) 'policy/grad_norm': '99.0',",
        f" 'trainer/global_step': {step}}}",
    ],
    "slime": lambda step: [f"step {step}: {{'train/loss': -0.{step}}}", "Timer actor_train end (elapsed: 12.5s)"],
    "prime-rl": lambda step: [
        f"13:51:09 SUCCESS Step {step} |   18.2s | Loss 0.0071 | Entropy 0.1870",
        f"Step {step} | 13m 16s | Reward 0.7812 | Trainable 48/64 (75.0%)",
        "\t\t ╰─ math | Ratio 50.0% | Reward 0.5000",
    ],
    "areal": lambda step: [
        AREAL + f"Epoch 1/2 Step {step}/23 Train step {step}/46 done.",
        AREAL + "Stats (1/2):",
        "│ ppo_actor/update/entropy/avg │ 2.2102e-01 │",
        f"(Worker pid=7) CUDA error: {step}",
        "╘══════════════════════════════╧════════════╛",
        AREAL + "Stats (2/2):",
        f"│ ppo_actor/update/entropy/avg │ {step}.0000e-01 │",
        "╘══════════════════════════════╧════════════╛",
    ],
    "roll": lambda step: ['{"actor/pg_loss@sum": -0.0125}', f"(RLVRPipeline pid=5) pipeline step {step} finished"],
    "ms-swift": lambda step: [f"{{'loss': 0.0125, 'kl': 0.5, 'global_step/max_steps': '{step}/3766'}}"],
    "trl": lambda step: [
        f"  4%|▍         | {step}/200 [03:00<1:04:17, 20.20s/it]",
        f"{{'loss': 0.{step}, 'learning_rate': 1e-06, 'kl': 0.5, 'epoch': 0.01}}",
    ],
    "openrlhf": lambda step: [
        f"INFO 08-13 19:25:45 ppo_trainer.py:547] ✨ Global step {step}: {{'policy_loss': -0.0123,",
        "'kl': 0.5}",
    ],
    "sb3": lambda step: [
        "------------------------------------------",
        "| rollout/                |              |",
        f"|    ep_rew_mean          | {step}.5        |",
        "| time/                   |              |",
        f"|    iterations           | {step}            |",
        "------------------------------------------",
    ],
    "deepspeed": lambda step: [
        f"[2025-02-22 10:11:12,345] [INFO] [logging.py:128:log_dist] [Rank 0] step={step}, skipped=2, lr=[1e-06]",
        "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768",
        "[2025-02-22 10:11:12,345] [WARNING] [stage3.py:2140:step] 12 pytorch allocator cache flushes since last step.",
    ],
    "crashes": lambda step: [
        "(A pid=1) Traceback (most recent call last):",
        '(A pid=1)   File "x.py", line 3, in f',
        "(B pid=2) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        f"(A pid=1) KeyError: {step}",
    ],
    "others": lambda step: ["text", f"(A pid=1) {step}", "\x1b[36m(TaskRunner pid=3)\x1b[0m ", ""],
}


class NoChild:
    """A second process that failed, so that this one reads its part."""

    stdout = None
    returncode = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to wait for."""

    def kill(self) -> None:
        """There is nothing to end."""


def said(log: Log) -> tuple[list[str], list[object], int, int, int]:
    """Return what was read: rows, ticks, events; lines that were missed; lines; bytes."""
    for place in ("verl", "sb3"):
        next(kind for kind in known_dialects() if kind.name == place)().number(log)
    rows = [
        (row.dialect, row.line, row.step, row.axis, row.keys, row.count, row.bar, row.origin, row.time)
        for row in log.rows()
    ]
    values = [[format(value, ".12g") for value in row.values] for row in log.rows()]
    others = [
        (entry.dialect, entry.line, entry.name, entry.done)
        if isinstance(entry, Tick)
        else (entry.dialect, entry.line, entry.event, entry.step, entry.origin, str(entry.data))
        for entry in log.entries
        if isinstance(entry, Tick | Event)
    ]
    (facts,) = log.files
    return (
        [str(both) for both in zip(rows, values, strict=True)],
        [*others],
        *(
            facts.num_missed_lines,
            facts.num_lines,
            facts.num_bytes,
        ),
    )


def in_parts(lines: list[str], cuts: list[int], *, moved: bool) -> Log:
    """Read lines that are cut before some of them."""
    kinds = known_dialects()
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "train.log"
        path.write_bytes(b"".join(line.encode() + b"\n" for line in lines))
        starts = [0, *accumulate(len(line.encode()) + 1 for line in lines)]
        places = [starts[cut] for cut in sorted(cuts)]
        if moved:
            places = list(accumulate((parts._behind_block(path, place, kinds) for place in places), max))
        patch.setattr(parts, "_cuts", lambda *_: places)
        patch.setattr(parts, "_reading", lambda *_: NoChild())
        log = Log()
        parts.read_in_parts(path, log, kinds, len(cuts) + 1)
    return log


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_log_of_each_dialect_cut_before_any_line(name: str, moved: bool) -> None:
    """Rows, ticks, events, missed lines, and how many lines and bytes there are."""
    lines = [line for step in range(1, 5) for line in BLOCKS[name](step)]
    expected = said(read_chunks(["\n".join(lines).encode() + b"\n"], dialects=known_dialects()))
    for cut in range(len(lines) + 1):
        assert said(in_parts(lines, [cut], moved=moved)) == expected, cut


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.lists(st.integers(0, 1 << 30), min_size=1, max_size=4), st.booleans())
def test_logs_of_several_dialects_cut_anywhere(seed: int, cuts: list[int], moved: bool) -> None:
    """Also into several parts, some of them empty or within one block."""
    rng = random.Random(seed)  # noqa: S311 - test data
    names = rng.sample(sorted(BLOCKS), 3)
    lines = [line for step in range(1, 6) for name in rng.sample(names, 2) for line in BLOCKS[name](step)]
    expected = said(read_chunks(["\n".join(lines).encode() + b"\n"], dialects=known_dialects()))
    assert said(in_parts(lines, [cut % (len(lines) + 1) for cut in cuts], moved=moved)) == expected


def test_a_whole_line_that_is_held_for_caution_hands_nothing_over() -> None:
    """Behind a step of verl its rest might come: the next step is none, and is the other reader's."""
    reader = Reader(dialects=[find_dialect("orz_monitor.dialects.verl:Verl")])
    reader.feed(f"{RAY}step:1 - actor/pg_loss:0.5\n".encode())
    assert reader.is_open
    assert reader.finish_block([f"{RAY}step:2 - actor/pg_loss:0.5\n{RAY}step:3 - actor/pg_loss:0.5\n".encode()]) == 0
    log = reader.close()
    assert [(row.step, list(row.values)) for row in log.rows()] == [(1, [0.5])]
    assert log.files[0].num_lines == 1


def test_a_block_goes_on_in_the_next_part() -> None:
    """A traceback of one process, and the step that another prints meanwhile: three lines, and not the fourth."""
    lines = [
        "(A pid=1) Traceback (most recent call last):",
        '(A pid=1)   File "x.py", line 3, in f',
        f"{RAY}step:2 - actor/pg_loss:0.5",
        "(A pid=1) KeyError: 2",
        "(A pid=1) KeyError: 3",
    ]
    first, *rest = (line.encode() + b"\n" for line in lines)
    reader = Reader()
    reader.feed(first)
    assert reader.finish_block([b"".join(rest)]) == sum(map(len, rest[:3]))
    log = reader.close()
    assert [entry.line for entry in log.entries if isinstance(entry, Row)] == [3]
    assert [(entry.line, entry.event) for entry in log.entries if isinstance(entry, Event)] == [(4, "fault")]


def test_a_cut_is_moved_behind_the_block_it_goes_through(tmp_path: Path) -> None:
    """Within a traceback, behind its exception; at its beginning, and behind a whole step, it stays."""
    step, trace = (
        f"{RAY}step:1 - actor/pg_loss:0.5\n",
        "Traceback (most recent call last):\n  File\n  g()\nKeyError: 1\n",
    )
    path = tmp_path / "train.log"
    path.write_text(step * 3 + trace + step * 3)
    kinds, begin = known_dialects(), 3 * len(step)
    cuts = [
        begin - len(step),
        begin,
        begin + trace.index("  File"),
        begin + trace.index("KeyError"),
        begin + len(trace),
    ]
    behind = begin + len(trace)
    assert [parts._behind_block(path, cut, kinds) for cut in cuts] == [*cuts[:2], behind, behind, behind]
