"""Headings of home-made logs, with nothing but an epoch or an episode on them: what stands below belongs to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.run import Run

pytestmark = pytest.mark.unit


def run_of(tmp_path: Path, text: str) -> Run:
    path = tmp_path / "train.log"
    path.write_text(text, encoding="ascii")
    return load_run(path)


def series(run: Run) -> dict[str, dict[int, float]]:
    return {name: dict(zip(one.steps.tolist(), one.values.tolist(), strict=True)) for name, one in run.metrics.items()}


@pytest.mark.parametrize("heading", ["Epoch {}", "=== Epoch {}/5 ===", "Epoch: {}", "Epoch {} of 5", "EPOCH {}"])
@pytest.mark.parametrize("settings", ["", "lr: 1e-4\nepochs: 5\n"])
def test_what_stands_below_a_heading_is_of_its_epoch(tmp_path: Path, heading: str, settings: str) -> None:
    """That of the first one, too."""
    epochs = [1, 2, 3, 4, 5]
    lines = [f"{heading.format(epoch)}\npolicy_loss {epoch}.5 reward 0.{epoch}\n" for epoch in epochs]
    run = run_of(tmp_path, settings + "".join(lines))
    assert series(run) == {
        "data/epoch": {epoch: epoch for epoch in epochs},
        "policy/loss": {epoch: epoch + 0.5 for epoch in epochs},
        "reward/mean": {epoch: epoch / 10 for epoch in epochs},
    }
    assert run.restarts == ()


def test_metrics_that_others_have_show_a_trainer_below_rising_headings(tmp_path: Path) -> None:
    """A loss and a reward alone do not, and neither do they below one heading."""
    metrics = "train: loss 0.5 reward 0.25\n"
    run = run_of(tmp_path, "".join(f"Epoch {epoch}\n{metrics}" for epoch in (1, 2, 3)))
    assert series(run)["reward/mean"] == {1: 0.25, 2: 0.25, 3: 0.25}
    for text in (metrics * 9, f"Epoch 1\n{metrics * 9}"):
        with pytest.raises(UnreadableRunError, match="no metric recognised"):
            run_of(tmp_path, text)


@pytest.mark.parametrize("first", [1, 0])
def test_steps_that_begin_anew_below_each_heading(tmp_path: Path, first: int) -> None:
    """They are counted on, and are no restarts; the epoch is that of the step below it."""
    steps = "".join(f"step {step} loss 0.5 reward 0.25\n" for step in range(first, first + 3))
    run = run_of(tmp_path, "".join(f"Epoch {epoch}\n{steps}" for epoch in (1, 2, 3)))
    assert run.steps.tolist() == list(range(first, first + 9))
    assert series(run)["data/epoch"] == {first: 1, first + 3: 2, first + 6: 3}
    assert run.restarts == ()


def test_steps_that_go_on_below_headings(tmp_path: Path) -> None:
    """Headings change nothing in their numbers."""
    lines = [
        f"Epoch {at}\nstep {3 * at} loss 0.5 reward 0.1\nstep {3 * at + 1} loss 0.5 reward 0.2\n" for at in range(4)
    ]
    assert run_of(tmp_path, "".join(lines)).steps.tolist() == [0, 1, 3, 4, 6, 7, 9, 10]


def test_a_setting_is_no_heading(tmp_path: Path) -> None:
    """`epoch: 10` above a log that never says one again is how many there will be; it is counted."""
    run = run_of(tmp_path, "epoch: 10\n" + "".join(f"loss 0.{n} reward 0.{n} kl 0.{n}\n" for n in range(1, 6)))
    assert run.steps.tolist() == [1, 2, 3, 4, 5]
    assert "data/epoch" not in run.metrics
    assert run.coverage.num_missed_lines == 1


def test_headings_are_of_their_process(tmp_path: Path) -> None:
    """What another one prints below them is not of their epoch."""
    lines = [
        f"(A pid=1) Epoch {epoch}\n(B pid=2) policy_loss 9 reward 9\n(A pid=1) policy_loss {epoch} reward 0.5\n"
        for epoch in (1, 2, 3)
    ]
    assert series(run_of(tmp_path, "".join(lines)))["policy/loss"] == {1: 1, 2: 2, 3: 3}
