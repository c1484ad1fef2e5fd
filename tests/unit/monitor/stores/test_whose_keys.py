"""Whose keys a table has: a trainer's, where one of them is no plain word."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.formats.unknown_trainer import read_as
from orz_monitor.loading import load_run

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("keys", "framework"),
    [
        (("loss", "reward", "grad_norm", "lr"), "generic"),
        (("loss", "reward", "kl", "entropy", "learning_rate"), "generic"),
        (("loss", "reward", "completions/mean_length"), "trl"),
        (("loss", "reward", "memory(GiB)"), "ms-swift"),
        (("actor/pg_loss", "critic/score/mean", "response_length/mean"), "verl"),
        (("reward/mean", "policy/loss", "policy/lr"), "orz-train"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_trainer_is_told_by_a_key_of_its_own(
    tmp_path: Path, keys: tuple[str, ...], framework: str, form: str
) -> None:
    """Plain names are everybody's; TRL's are not taken for those of ms-swift, which has them all."""
    rows = [(step, *(step / (at + 3) for at in range(len(keys)))) for step in range(1, 6)]
    path = tmp_path / f"table.{form}"
    names = ("step", *keys)
    if form == "csv":
        lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    else:
        lines = ["{" + ", ".join(f'"{k}": {v}' for k, v in zip(names, row, strict=True)) + "}" for row in rows]
    path.write_text("\n".join(lines) + "\n")

    assert framework == load_run(str(path)).framework


def test_plain_names_have_their_meanings(tmp_path: Path) -> None:
    """A table that is nobody's is judged by our names all the same, and that is said."""
    path = tmp_path / "table.csv"
    path.write_text("step,loss,reward,grad_norm,lr\n1,0.5,0.25,2.0,1e-6\n2,0.4,0.5,1.0,1e-6\n")
    run = load_run(str(path))

    assert ["policy/grad_norm", "policy/lr", "policy/total_loss", "reward/mean"] == sorted(run.metrics)
    assert (
        "nothing tells whose keys these are: 4 metrics recognised by their names alone (grad_norm, lr, loss, reward)"
        == read_as(run)
    )
