from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

from orz_train.runlog.errors import LogWriteError
from orz_train.runlog.rollouts import write_rollouts
from orz_train.types import ScoreStatus

pytestmark = pytest.mark.unit


def test_a_row_tells_what_was_sampled_and_how_it_was_scored(tmp_path: Path, make_sample: Callable[..., object]) -> None:
    """Every column, as another program reads it."""
    sample = make_sample(text="it is 7</s>", parts={"format": 1.0}, facts={"extracted": "7"})
    path = write_rollouts(tmp_path / "rollouts", 12, [sample], max_rows=10)
    assert tmp_path / "rollouts" / "step_000012.parquet" == path
    table = parquet.read_table(path)
    assert [
        {
            "step": 12,
            "prompt_id": "train:7",
            "group_index": 3,
            "prompt": "3+4=",
            "response": "it is 7</s>",
            "answer": "7",
            "reward": 1.0,
            "status": "ok",
            "parts": [("format", 1.0)],
            "facts": [("extracted", "7")],
            "finish": "stop",
            "tokens": 2,
        }
    ] == table.to_pylist()
    assert b"1" == table.schema.metadata[b"orz.rollouts"]


def test_rows_are_capped_in_rollout_order(tmp_path: Path, make_sample: Callable[..., object]) -> None:
    """The first ones stay, which are whole groups."""
    samples = [make_sample(text=str(index)) for index in range(5)]
    table = parquet.read_table(write_rollouts(tmp_path, 1, samples, max_rows=3))
    assert ["0", "1", "2"] == table.column("response").to_pylist()


def test_an_evaluation_has_a_file_of_its_own(tmp_path: Path, make_sample: Callable[..., object]) -> None:
    """Beside the samples of the same step."""
    assert ["step_000001.parquet", "eval_000001.parquet"] == [
        write_rollouts(tmp_path, 1, [make_sample()], max_rows=3, kind=kind).name for kind in ("step", "eval")
    ]


def test_odd_values_are_kept(tmp_path: Path, make_sample: Callable[..., object]) -> None:
    """Non-finite rewards, failed scores, empty maps and text that UTF-8 can't hold."""
    samples = [
        make_sample(text="\ud800", reward=math.inf),
        make_sample(text="", reward=0.0, status=ScoreStatus.TIMEOUT, facts={"n": 3}),
    ]
    rows = parquet.read_table(write_rollouts(tmp_path, 1, samples, max_rows=3)).to_pylist()
    assert [r"\ud800", math.inf, []] == [rows[0][name] for name in ("response", "reward", "parts")]
    assert ["", "timeout", [("n", "3")]] == [rows[1][name] for name in ("response", "status", "facts")]


def test_a_step_that_is_repeated_replaces_its_file(tmp_path: Path, make_sample: Callable[..., object]) -> None:
    """After a resume the later attempt counts."""
    for text in ("before", "after"):
        path = write_rollouts(tmp_path, 1, [make_sample(text=text)], max_rows=3)
    assert ["after"] == parquet.read_table(path).column("response").to_pylist()


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, make_sample: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file stays whole and no fragment lies beside it."""
    path = write_rollouts(tmp_path, 1, [make_sample(text="before")], max_rows=3)

    def full(table: object, where: Path, **_: object) -> None:
        where.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orz_train.runlog.rollouts.parquet.write_table", full)
    with pytest.raises(LogWriteError, match=r"step_000001\.parquet: can't be written: No space left"):
        write_rollouts(tmp_path, 1, [make_sample(text="after")], max_rows=3)
    assert [path] == list(tmp_path.iterdir())
    assert ["before"] == parquet.read_table(path).column("response").to_pylist()
