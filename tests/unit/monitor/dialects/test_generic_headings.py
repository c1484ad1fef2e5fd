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
@pytest.mark.parametrize(
    "heading", ["Epoch {}", "[Epoch {}]", "Epoch {}:", "Epoch: {}/3", "Epoch: {} of 3", "Epoch = {}/3"]
)
def test_steps_that_begin_anew_below_each_heading(tmp_path: Path, heading: str, first: int) -> None:
    """They are counted on, and are no restarts; the epoch is that of the step below it."""
    steps = "".join(f"step {step} loss 0.5 reward 0.25\n" for step in range(first, first + 3))
    run = run_of(tmp_path, "".join(f"{heading.format(epoch)}\n{steps}" for epoch in (1, 2, 3)))
    assert run.steps.tolist() == list(range(first, first + 9))
    assert series(run)["data/epoch"] == {first: 1, first + 3: 2, first + 6: 3}
    assert run.restarts == ()


@pytest.mark.parametrize("first", [1, 0])
@pytest.mark.parametrize("heading", ["Epoch: {}", "Epoch = {}", "Episode: {}", "=== epoch={} ==="])
@pytest.mark.parametrize("setting", ["", "epoch: 10\n"])
def test_a_marked_heading_is_none_until_a_later_one_follows(
    tmp_path: Path, setting: str, heading: str, first: int
) -> None:
    """Then the steps above that are of the one before, also below a setting of the same name, and none is lost."""
    steps = "".join(f"step {step} loss 0.5 reward 0.25\n" for step in range(first, first + 10))
    run = run_of(tmp_path, setting + "".join(f"{heading.format(epoch)}\n{steps}" for epoch in range(5)))
    assert run.steps.tolist() == list(range(first, first + 50))
    assert run.restarts == ()


def test_a_restart_below_marked_headings(tmp_path: Path) -> None:
    """Epochs that are printed again take the place of what they had before."""
    lines = [f"Epoch: {epoch}\n" + "".join(f"step {step} loss {attempt}.5 reward 0.25\n" for step in (1, 2, 3))
             for attempt, epochs in enumerate(([1, 2, 3], [2, 3, 4])) for epoch in epochs]  # fmt: skip
    run = run_of(tmp_path, "".join(lines))
    assert series(run)["policy/total_loss"] == {step: 0.5 if step <= 3 else 1.5 for step in range(1, 13)}
    assert run.restarts == (4,)


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


def test_a_setting_counts_no_epochs_of_lines_below_it(tmp_path: Path) -> None:
    """Lines with a step alone stay at their step, also beside those that say their epoch."""
    lines = [f"epoch 1 step {step}/3 loss 0.5 reward 0.25\nstep {step} kl 0.1 entropy 0.5\n" for step in (1, 2, 3)]
    assert run_of(tmp_path, "epoch: 10\n" + "".join(lines)).steps.tolist() == [1, 2, 3]


def test_rising_marked_headings_place_what_stands_below(tmp_path: Path) -> None:
    """A loss and a reward show a trainer below them; settings that are printed again do not."""
    metrics = "train: loss 0.5 reward 0.25\n"
    run = run_of(tmp_path, "".join(f"Epoch: {epoch}/5\n{metrics}" for epoch in (1, 2, 3)))
    assert series(run)["reward/mean"] == {1: 0.25, 2: 0.25, 3: 0.25}
    with pytest.raises(UnreadableRunError, match="no metric recognised"):
        run_of(tmp_path, f"epoch: 10\n{metrics}" * 9)


def test_headings_are_of_their_process(tmp_path: Path) -> None:
    """What another one prints below them is not of their epoch."""
    lines = [
        f"(A pid=1) Epoch {epoch}\n(B pid=2) policy_loss 9 reward 9\n(A pid=1) policy_loss {epoch} reward 0.5\n"
        for epoch in (1, 2, 3)
    ]
    assert series(run_of(tmp_path, "".join(lines)))["policy/loss"] == {1: 1, 2: 2, 3: 3}


@pytest.mark.parametrize("heading", ["Episode {}", "--- Episode {} of 500 ---", "Epoch {}/3", "Epoch: {}/3"])
@pytest.mark.parametrize("third", ["kl", "entropy"])
def test_metrics_on_lines_of_their_own_below_headings(tmp_path: Path, heading: str, third: str) -> None:
    """Three show a trainer as they would on one line, and those of the first heading are read, too."""
    blocks = (f"{heading.format(n)}\nreward: 0.{n}\nloss: {n}.5\ntook: 3 s\n{third}: 0.01\n" for n in (1, 2, 3))
    run = run_of(tmp_path, "device: cuda:0\n" + "".join(blocks))
    read = series(run)
    assert read["reward/mean"] == {1: 0.1, 2: 0.2, 3: 0.3}
    assert read["policy/total_loss"] == {1: 1.5, 2: 2.5, 3: 3.5}
    assert read["policy/kl_ref" if third == "kl" else "policy/entropy"] == {1: 0.01, 2: 0.01, 3: 0.01}
    assert run.coverage.num_missed_lines == 0


@pytest.mark.parametrize(
    "block",
    [
        "reward: 0.5\n",
        "reward: 0.5\nloss: 0.25\n",
        "reward: 0.5\nloss: 0.25\nslot: 5\nbalance: 32\n",
        "reward: 0.5\nloss: 0.25\nstop loss: 3\n",
        "reward: 0.5\nloss: 0.25\nlr: 3 files\n",
        "reward: 0.5\nloss: 0.25\nvalidators reward: 512\naccuracy: 0.9\n",
        "reward: 0.5\nloss: 0.25%\nlr: 3\n",
        "reward: 0.5\nthe loss 3 of 4\nloss: 0.25\naccuracy: 0.9\n",
    ],
    ids=["one metric", "two", "a chain", "another loss", "things", "a chain, by name", "packets", "others between"],
)
def test_lines_below_headings_of_other_programs(tmp_path: Path, block: str) -> None:
    """Fewer show no trainer, nor do those with a word of chains and networks, or with another line between."""
    with pytest.raises(UnreadableRunError, match="no metric recognised"):
        run_of(tmp_path, "".join(f"Epoch {epoch}\n{block}" for epoch in range(1, 10)))


def test_metrics_on_lines_of_their_own_below_one_heading(tmp_path: Path) -> None:
    """Headings have to rise: below one alone, or the same again, they show nothing."""
    block = "reward: 0.5\nloss: 0.25\nentropy: 0.1\n"
    for text in (f"Epoch 1\n{block * 9}", f"Epoch 1\n{block}" * 9):
        with pytest.raises(UnreadableRunError, match="no metric recognised"):
            run_of(tmp_path, text)
