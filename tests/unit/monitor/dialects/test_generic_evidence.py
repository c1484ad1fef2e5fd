"""What shows that a home-made log is a trainer's: known metrics that recur with rising steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.generic.evidence import Evidence, evidence_of
from orz_monitor.dialects.generic.named_numbers import NamedNumber
from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.transport.prefixes import Origin

pytestmark = pytest.mark.unit


def series_of(folder: Path, text: str) -> dict[str, list[int]]:
    """Return the steps of each metric; nothing for a log that is refused."""
    path = folder / "train.log"
    path.write_text(text, encoding="utf-8")
    try:
        return {name: found.steps.tolist() for name, found in load_run(path).metrics.items()}
    except UnreadableRunError:
        return {}


@pytest.mark.parametrize(
    ("lines", "steps"),
    [
        (
            [
                "step 1 | loss 0.93 | reward 0.10",
                "step 2 | loss 0.83 | reward 0.14 | zork 7",
                "step 3 | loss 1 | reward 2",
            ],
            {"policy/total_loss": [1, 2, 3], "reward/mean": [1, 2, 3], "zork": [2]},
        ),
        (
            ["step 1 loss 1 reward 2", "step 2 loss 1 reward 2 kl 3 entropy 4", "step 3 reward 2 loss 1"],
            {"policy/total_loss": [1, 2, 3], "reward/mean": [1, 2, 3], "policy/kl_ref": [2], "policy/entropy": [2]},
        ),
        (
            ["step 1 grad_norm 1", "step 2 grad_norm 1 files 7", "step 3 grad_norm 2 (took 3 s)"],
            {"policy/grad_norm": [1, 2, 3], "files": [2], "took": [3]},
        ),
        (
            ["step 1 loss 1 reward 2", "step 2 loss 1 reward 2 zork 3"],
            {"policy/total_loss": [1, 2], "reward/mean": [1, 2], "zork": [2]},
        ),
    ],
    ids=["the issue", "metrics now and then", "one that only trainers print", "no more than two lines"],
)
def test_lines_need_not_be_alike(tmp_path: Path, lines: list[str], steps: dict[str, list[int]]) -> None:
    """It is enough that the same known metrics come in three steps."""
    assert series_of(tmp_path, "\n".join(lines) + "\n") == steps


@pytest.mark.parametrize(
    "lines",
    [
        ["step 1 loss 1 kl 2", "step 2 reward 1 entropy 2", "step 3 loss 1 entropy 2"],
        ["step 1 loss 1 lr 2", "step 2 lr 1 reward 2", "step 3 lr 1 kl 2"],
        ["step 3 loss 1 kl 2", "step 2 loss 1 kl 2 zork 3", "step 1 loss 1 kl 2"],
        ["{'kl': 1, 'grad_norm': 2}", "{'kl': 1, 'grad_norm': 2, 'seed': 3}", "{'kl': 1, 'grad_norm': 2, 'gpus': 3}"],
        ["step 1 loss 1 kl 2", "(B pid=2) step 2 loss 1 kl 2 zork 3", "(C pid=3) step 3 loss 1 kl 2"],
        [f"epoch {i} validator 12 reward {i} loss 3{' slot 4' * (i % 2)}" for i in range(1, 30)],
        [f"Step {i} Temp 300.{i} entropy 3.1{' Press 1.2' * (i % 2)}" for i in range(1, 30)],
        [f"[response] Step {i}: so loss = {i}, and{' then' * (i % 2)} x = 3" for i in range(1, 30)],
    ],
    ids=[
        "none three times",
        "a learning rate",
        "steps fall",
        "settings",
        "processes",
        "validator",
        "thermo",
        "answers",
    ],
)
def test_what_decides_nothing(tmp_path: Path, lines: list[str]) -> None:
    """Metrics that don't recur together, in one process, with rising steps; without steps, lines of another form."""
    assert series_of(tmp_path, "\n".join(lines) + "\n") == {}


def test_samples_of_a_known_trainer_are_no_run(tmp_path: Path) -> None:
    """Answers that name metrics are no metrics, however often: no step rises in them."""
    answers = ['response: {"loss": 900}', "Answer: loss = 3, reward = 4", "Step 1: loss = 3, reward = 4", "kl: 3"]
    assert series_of(tmp_path, "\n".join(answers * 50) + "\n") == {}


def test_processes_without_end_are_counted_up_to_a_bound() -> None:
    """What hostile input invents takes no more memory."""
    evidence = Evidence()
    found = [NamedNumber(b"loss", b"1"), NamedNumber(b"kl", b"2")]
    names = evidence_of(found, has_place=True)
    assert names == {"policy/total_loss", "policy/kl_ref"}
    for at in range(12_000):
        evidence.take(found, names, Origin(pid=str(at)), (-1, 0))
    assert not evidence.enough
    assert len(evidence._seen) <= 10_000
