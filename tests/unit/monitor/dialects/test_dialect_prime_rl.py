"""prime-rl's two processes, its JSON records, and what it leaves out as not finite."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from orz_monitor.dialects.prime_rl import PrimeRl
from orz_monitor.loading import load_run
from orz_monitor.log import Event, Log, Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

TRAINER = (
    "13:51:09 SUCCESS Step 12 |   18.2s | Loss 0.0071 | Entropy 0.1870 | Mismatch KL 0.0017 | Grad. Norm 0.0906 | "
    "LR 1.00e-06 | Throughput 8712 tokens/s | MFU 5.4% | Peak Mem. 89.6 GiB | Max Vio 6.0787 | Routing Conf. 0.0992"
)
ORCHESTRATOR = (
    "\x1b[32m13:50:01\x1b[0m \x1b[1mSUCCESS\x1b[22m Step 12 | 13m 16s | Reward 0.7812 | Trainable 48/64 (75.0%) | "
    "Turns 31.1 | Branches 1.0 | Max Off-Policy 2 | Error 0.0% | Cancelled 1.5% | Truncation 3.0%"
)
ENVIRONMENT = "\t\t ╰─ math | Ratio 50.0% | Reward 0.5000 | Turns 1.0 | Branches 1.0 | Max Off-Policy 2 | Error 0.0%"


def read(*lines: str) -> Log:
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[PrimeRl])
    PrimeRl().number(log)
    return log


def rows(*lines: str) -> list[Row]:
    return [entry for entry in read(*lines).entries if isinstance(entry, Row)]


def values(row: Row) -> dict[str, float]:
    return dict(zip(row.keys, row.values, strict=True))


def test_the_trainers_line() -> None:
    """Percentages are fractions, GiB are 2^30 bytes, and no number is lost."""
    (row,) = rows(TRAINER)
    assert row.step == 12
    assert values(row) == pytest.approx(
        {
            "time": 18.2,
            "Loss": 0.0071,
            "Entropy": 0.187,
            "Mismatch KL": 0.0017,
            "Grad. Norm": 0.0906,
            "LR": 1e-6,
            "Throughput": 8712,
            "MFU": 0.054,
            "Peak Mem.": 89.6 * 2**30,
            "Max Vio": 6.0787,
            "Routing Conf.": 0.0992,
        }
    )


@pytest.mark.parametrize(("item", "key"), [("Reward: 0.4312", "orchestrator/time"), ("Throughput: 9 tok/s", "time")])
def test_lines_with_colons(item: str, key: str) -> None:
    """As earlier versions print them: the orchestrator's without a throughput, too."""
    (row,) = rows(f"Step 12 | Time: 34.21s | {item} | Seq. Length: 512.3 tokens/sample | Max. Off-Policy Level: 2")
    printed = values(row)
    assert (row.step, printed[key], printed["Seq. Length"], printed["Max. Off-Policy Level"]) == (12, 34.21, 512.3, 2)
    assert [PrimeRl().meaning(name).name for name in (key, "Max. Off-Policy Level")] == [
        "seconds/total",
        "staleness/max",
    ]


def test_the_orchestrators_line_and_its_environments() -> None:
    """13m 16s are 796 s; an environment's line has no step of its own."""
    head, environment = rows(ORCHESTRATOR, ENVIRONMENT)
    assert (head.step, environment.step, environment.axis) == (12, 12, "environment")
    assert values(head) == pytest.approx(
        {
            "orchestrator/time": 796,
            "Reward": 0.7812,
            "Trainable": 48,
            "Trainable/of": 64,
            "Trainable/aside": 0.75,
            "Turns": 31.1,
            "Branches": 1,
            "Max Off-Policy": 2,
            "Error": 0,
            "Cancelled": 0.015,
            "Truncation": 0.03,
        }
    )
    assert values(environment)["env/math/Ratio"] == 0.5
    assert values(environment)["env/math/Reward"] == 0.5


@pytest.mark.parametrize(
    ("printed", "seconds"), [("350ms", 0.35), ("1h 5m", 3900), ("2d 3h", 183600), ("18.2s", 18.2), ("13m 16s", 796)]
)
def test_durations(printed: str, seconds: float) -> None:
    """All forms in which prime-rl prints a time."""
    (row,) = rows(f"Step 3 | {printed:>7} | Reward 0.5")
    assert values(row)["orchestrator/time"] == pytest.approx(seconds)


def test_records_of_json() -> None:
    """With `--json` a line is a record, and the lines of environments are in one message."""
    message = ORCHESTRATOR.split("22m ")[1] + "\n" + ENVIRONMENT
    record = {"timestamp": "2026-07-25T13:51:09", "level": "SUCCESS", "message": message, "line": 7}
    found = rows(json.dumps(record), '{"message": "Step 1 | Reward 0.5', '{"a":' * 5000 + '"message" | Reward 1')
    assert [row.step for row in found] == [12, 12]
    assert found[0].time is not None
    assert found[1].keys[0] == "env/math/Ratio"


def test_what_is_not_finite_is_a_nan() -> None:
    """prime-rl removes such values before it writes: the warning is the only sign."""
    log = read(
        TRAINER,
        "13:51:09 WARNING Dropping 3 non-finite value(s) from metrics.jsonl: optim/grad_norm, loss/mean",
    )
    event = next(entry for entry in log.entries if isinstance(entry, Event))
    assert (event.event, event.data["kind"], event.data["count"]) == ("notice", "nonfinite_dropped", 3)
    row = [entry for entry in log.entries if isinstance(entry, Row)][1]
    assert (row.step, row.keys) == (12, ("optim/grad_norm", "loss/mean"))
    assert all(math.isnan(value) for value in row.values)


def test_evaluations_micro_steps_and_text() -> None:
    """A micro step is no step of the run; text with bars is nothing."""
    found = rows(
        "Evaluated aime (Step 100) | 1m 2s | Policy v99 | Reward 0.5 | Pass@8 0.75",
        "Micro Step 3/8 | Loss 0.5 | Throughput 5 tokens/s",
        "a table | Reward 5 | of nothing",
        "Step 13 | 18.2s | Loss nan | Entropy 0.2 | Throughput 87",
    )
    assert [(row.step, row.axis) for row in found] == [(100, "eval"), (None, "micro"), (13, "")]
    assert values(found[0]) == {
        "eval/aime/time": 62,
        "eval/aime/Policy": 99,
        "eval/aime/Reward": 0.5,
        "eval/aime/Pass@8": 0.75,
    }
    assert values(found[1]) == {"micro/Loss": 0.5, "micro/Throughput": 5, "micro/done": 3, "micro/total": 8}


def test_a_run_of_two_files(tmp_path: Path) -> None:
    """Trainer and orchestrator count the same steps; the trainer's time is the step's."""
    (tmp_path / "trainer.log").write_text(f"{TRAINER}\n{TRAINER.replace('Step 12', 'Step 13')}\n", encoding="utf-8")
    other = ORCHESTRATOR.replace("Step 12", "Step 13")
    (tmp_path / "orchestrator.log").write_text(f"{ORCHESTRATOR}\n{other}\n", encoding="utf-8")
    run = load_run(tmp_path)
    assert run.framework == "prime-rl"
    assert run.restarts == ()
    assert run.metrics["reward/mean"].steps.tolist() == [12, 13]
    assert run.metrics["policy/entropy"].steps.tolist() == [12, 13]
    assert run.metrics["rollout/zero_variance_frac"].values.tolist() == [0.25, 0.25]
    assert run.seconds["total"].values.tolist() == [18.2, 18.2]
