"""The same records as rows of a table and as lines of a home-made log: whose names they have, and what they mean."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orz_cli.main import main
from orz_monitor.formats.unknown_trainer import read_as
from orz_monitor.loading import load_run
from orz_monitor.run import Run

pytestmark = pytest.mark.component

VERL = (
    *("actor/pg_loss", "actor/kl_loss", "actor/entropy_loss", "actor/grad_norm", "actor/lr"),
    *("critic/score/mean", "response_length/mean", "response_length/clip_ratio"),
)
VERL_MEANT = {
    *("policy/loss", "policy/kl_ref", "policy/entropy", "policy/grad_norm", "policy/lr"),
    *("reward/mean", "rollout/response_tokens_mean", "rollout/truncated_frac"),
}
TRL = ("loss", "reward", "kl", "completions/mean_length", "frac_reward_zero_std")
TRL_MEANT = {
    *("policy/total_loss", "reward/mean", "policy/kl_ref"),
    *("rollout/response_tokens_mean", "rollout/zero_variance_frac"),
}
PLAIN = ("rewards", "kl", "loss")
PLAIN_MEANT = {"reward/mean", "policy/kl_ref", "policy/total_loss"}


def records_of(keys: tuple[str, ...]) -> list[dict[str, float]]:
    """Return twelve steps with a value for each key, all different."""
    return [{key: round(0.01 * step + 0.1 * at + 0.05, 4) for at, key in enumerate(keys)} for step in range(12)]


def nested(row: dict[str, float]) -> dict[str, object]:
    """Return a row with objects for what has a slash in its name; flat JSON with `actor/` is what ROLL prints."""
    tree: dict[str, Any] = {}
    for key, value in row.items():
        *outer, last = key.split("/")
        inner = tree
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return tree


def forms_of(records: list[dict[str, float]]) -> dict[str, str]:
    """Return the records in the forms in which home-made loops print them."""
    rows = [{"step": step, **record} for step, record in enumerate(records)]
    told = list(enumerate(records))
    return {
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "json.log": "".join(json.dumps(nested(row)) + "\n" for row in rows),
        "equals.log": "".join(
            f"step={step} " + " ".join(f"{key}={value}" for key, value in record.items()) + "\n"
            for step, record in told
        ),
        "dashes.log": "".join(
            f"step: {step} - " + " - ".join(f"{key}:{value}" for key, value in record.items()) + "\n"
            for step, record in told
        ),
        "strokes.log": "".join(
            f"iteration {step} | " + " | ".join(f"{key} {value}" for key, value in record.items()) + "\n"
            for step, record in told
        ),
    }


def meant(run: Run) -> dict[str, tuple[list[float], str, str]]:
    """Return values, unit and estimator of each metric."""
    return {name: (series.values.tolist(), series.unit, series.estimator) for name, series in run.metrics.items()}


@pytest.mark.parametrize(
    ("keys", "trainer", "metrics"),
    [(VERL, "verl", VERL_MEANT), (TRL, "trl", TRL_MEANT), (PLAIN, "generic", PLAIN_MEANT)],
)
@pytest.mark.parametrize("form", ["json.log", "equals.log", "dashes.log", "strokes.log"])
def test_lines_mean_what_rows_mean(
    tmp_path: Path, keys: tuple[str, ...], trainer: str, metrics: set[str], form: str
) -> None:
    """Name by name, value by value, and with the same trainer named."""
    texts = forms_of(records_of(keys))
    for name in ("rows.jsonl", form):
        (tmp_path / name).write_text(texts[name], encoding="utf-8")
    rows, lines = load_run(tmp_path / "rows.jsonl"), load_run(tmp_path / form)
    assert set(lines.metrics) == metrics
    assert meant(lines) == meant(rows)
    assert (lines.framework, rows.framework) == (trainer, trainer)
    assert bool(read_as(lines)) == (trainer == "generic")


def test_a_dictionary_behind_a_step_has_its_trainers_names(tmp_path: Path) -> None:
    """As SkyRL prints its own; these keys are verl's, and none of SkyRL's is among them."""
    records = records_of(VERL)
    path = tmp_path / "dictionaries.log"
    path.write_text("".join(f"INFO Step {step}: {record}\n" for step, record in enumerate(records)), encoding="utf-8")
    run = load_run(path)
    assert (run.framework, set(run.metrics)) == ("verl", VERL_MEANT)
    np.testing.assert_array_equal(run.metrics["reward/mean"].values, [r["critic/score/mean"] for r in records])
    assert run.steps.tolist() == list(range(12))


def test_plain_names_are_known_beside_a_trainers(tmp_path: Path) -> None:
    """A trainer's key goes before the plain name of the same metric, whose values stay under that name."""
    path = tmp_path / "mixed.log"
    line = "step={0} actor/kl_loss=0.{0}1 critic/score/mean=0.{0}2 mean_reward=0.{0}3 value_loss=0.{0}4\n"
    path.write_text("".join(line.format(n) for n in range(9)), encoding="utf-8")
    run = load_run(path)
    assert set(run.metrics) == {"policy/kl_ref", "reward/mean", "critic/loss", "mean_reward"}
    assert math.isclose(run.metrics["reward/mean"].values[3], 0.32)
    assert math.isclose(run.metrics["critic/loss"].values[3], 0.34)


def test_a_collapse_fails_whatever_the_file_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reward stands still from the middle on: exit 1 for rows of a table and for lines of a log."""
    rows = [
        {"step": n, "actor/pg_loss": 0.001 * (n % 7), "critic/score/mean": 0.4 + 0.01 * (n % 5) if n < 50 else 0.01}
        for n in range(100)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    codes = []
    for name in ("run.jsonl", "run.log"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        codes.append(main(["monitor", "check", str(tmp_path / name)]))
        assert "error[reward_floor]" in capsys.readouterr().out
    assert codes == [1, 1]


@pytest.mark.parametrize("line", ["step={0} score={0} lives=3", "level: {0} epoch: {0} score: 7 lives: 3 time: 9"])
def test_a_game_with_scores_is_no_training(tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A score means a reward beside metrics of training, and shows none."""
    path = tmp_path / "game.log"
    path.write_text("".join(line.format(n) + "\n" for n in range(50)), encoding="utf-8")
    assert main(["monitor", "check", str(path)]) == 3
    assert "no metric recognised in 50 lines" in capsys.readouterr().out


def test_one_short_word_makes_no_trainer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OpenRLHF has `values`; a line with that, and plain words beside it, may be anybody's."""
    log = tmp_path / "train.log"
    log.write_text("".join(f"step {i} | loss 0.0{i % 7} | reward 0.4{i % 9} | values 0.3\n" for i in range(1, 40)))
    assert main(["monitor", "check", "--json", str(log)]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["trainer"] == "generic"
