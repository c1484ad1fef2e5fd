"""Metric lines of verl that were broken before a logger or a collector put its prefix before each piece."""

from __future__ import annotations

import pytest

from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

KEYS = (
    "timing/gen", "timing/ref", "critic/kl", "critic/kl_coeff", "critic/vf_loss", "critic/vpred_mean", "actor/lr(1e-4)",
    "actor/entropy_loss", "critic/score/mean", "critic/advantages/min", "response_length/mean", "prompt_length/max",
)  # fmt: skip


def said(step: int) -> dict[str, float]:
    return {key: float(f"{(step * 7 + at) ** 2 / 8:.3f}") for at, key in enumerate(KEYS)}


def printed(step: int) -> str:
    return "(main_task pid=54) " + " - ".join([f"step:{step}", *(f"{k}:{v:.3f}" for k, v in said(step).items())])


def values(log: Log) -> list[tuple[int | None, dict[str, float]]]:
    return [(row.step, dict(zip(row.keys, row.values, strict=True))) for row in log.rows()]


@pytest.mark.parametrize(
    "prefix",
    [
        "2024-05-01 10:00:{second:02},123 INFO ",
        "[rank0]: ",
        "2024-05-01T10:00:{second:02}.123456789Z ",
        "[2024-05-01 10:00:{second:02}] ",
        "trainer-1  | ",
        "rl_train_2  | 2024-05-01T10:00:{second:02}.5Z ",
        "Nov  7 03:31:{second:02} gpu-4.site train@grpo.service[123]: ",
        "2024-05-01T12:00:{second:02}+0200 gpu-4 docker[9]: ",
    ],
    ids=["logging", "torchrun", "time", "time in brackets", "compose", "compose and time", "journal", "syslog"],
)
@pytest.mark.parametrize("width", range(60, 160, 4))
def test_pieces_below_a_prefix_are_whole_again(width: int, prefix: str) -> None:
    """Every value is there, also where a piece begins with a dash or looks like a place in a source."""
    lines = [line[at : at + width] for line in map(printed, range(1, 13)) for at in range(0, len(line), width)]
    text = "".join(prefix.format(second=at % 60) + line + "\n" for at, line in enumerate(lines))
    log = read_chunks([text.encode()], dialects=[Verl])
    assert values(log) == [(step, said(step)) for step in range(1, 13)]
    assert log.files[0].num_missed_lines == 0


def test_a_rest_that_begins_with_a_dash_is_not_forgotten() -> None:
    """The dash is no part of the logger's prefix."""
    prefix = "2024-05-01 10:00:00,123 INFO "
    log = read_chunks(
        [f"{prefix}(main_task pid=54) step:3 - actor/pg_loss:0.5\n{prefix} - actor/lr:0.25\n".encode()], dialects=[Verl]
    )
    found = values(log)
    assert found in ([(3, {"actor/pg_loss": 0.5, "actor/lr": 0.25})], [(3, {"actor/pg_loss": 0.5})])
    assert len(found[0][1]) == 2 or log.files[0].num_missed_lines == 1
