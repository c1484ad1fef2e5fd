"""What commands share: one judge with its configuration, a dialect of the user's, names of ours or of the log."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from orz_cli.main import main
from orz_monitor.loading import load_run
from orz_monitor.run import State
from orz_monitor.store_run import run_of_store
from orz_monitor.stores.base import Points, Problem, Store
from orz_monitor.table import read_table
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component

IGNORED = """
[[ignore]]
rule = "reward_floor"
reason = "the task is unsolvable on purpose"
"""


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    """A run whose reward stands still, which the file beside it says to ignore."""
    metrics = healthy_metrics(60)
    metrics["reward/mean"][40:] = 0.0
    metrics["reward/solved_frac"] = metrics["reward/mean"]
    run = write_run(tmp_path / "sick", step_records(metrics))
    (run / ".orz-monitor.toml").write_text(IGNORED)
    return run


def test_every_command_heeds_the_file_beside_the_run(
    sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """check, watch and tail find nothing to tell; a report has the finding with the reason for ignoring it."""
    assert main(["monitor", "check", str(sick)]) == 0
    state = tmp_path / "told.json"
    assert main(["monitor", "watch", str(sick), "--once", "--notify", "false", "--state", str(state)]) == 0
    capsys.readouterr()
    assert main(["monitor", "tail", str(sick), "--once"]) == 0
    assert main(["monitor", "tail", str(sick), "--plain"]) == 0
    assert "reward_floor" not in capsys.readouterr().out
    for form in ("html", "md", "json"):
        page = tmp_path / f"report.{form}"
        assert main(["monitor", "report", str(sick), "-o", str(page)]) == 0
        text = page.read_text(encoding="utf-8")
        assert "unsolvable on purpose" in text
    assert json.loads(text)["findings"] == []
    (sick / ".orz-monitor.toml").unlink()
    assert main(["monitor", "watch", str(sick), "--once", "--notify", "false", "--state", str(state)]) == 1
    assert main(["monitor", "report", str(sick), "-o", str(page)]) == 0
    assert [found["code"] for found in json.loads(page.read_text())["findings"]] == ["reward_floor"]


def test_a_preset_that_is_none_is_told_by_every_command(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error, exit 2, with the names there are."""
    for command in (["check"], ["report"], ["tail", "--once"], ["tail", "--plain"], ["watch", "--notify", "true"]):
        assert main(["monitor", *command, str(sick), "--preset", "pppo"]) == 2
        assert "did you mean ppo?" in capsys.readouterr().err


DIALECT = '''
from orz_monitor.dialects import Dialect, Meaning


class Mine(Dialect):
    """Lines such as `STEP 12 loss=0.5`."""

    name = "mine"
    gates = (b"STEP ",)
    meanings = {"r": Meaning("reward/mean")}

    def read(self, line, log):
        words = line.segments[-1].body.split()
        pairs = [tuple(word.split(b"=", 1)) for word in words[2:]]
        return log.add_pairs(self.name, pairs, line=line.number, step=int(words[1])) is not None
'''


def test_a_dialect_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named as module:Class, from the working directory; a name that means nothing is a usage error."""
    monkeypatch.chdir(tmp_path)
    Path("my_dialect.py").write_text(DIALECT)
    Path("train.log").write_text("".join(f"STEP {i} r=0.{i}5\n" for i in range(9)))
    assert main(["monitor", "check", "train.log", "--dialect", "my_dialect:Mine", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (9, 8) == (run["steps"], run["last_step"])
    assert main(["monitor", "report", "train.log", "--dialect", "my_dialect:Mine", "-o", "a.json"]) == 0
    assert json.loads(Path("a.json").read_text())["metrics"]["reward/mean"]["first"] == 0.05
    for wrong in ("my_dialect:Yours", "no_such_module:Mine", "json:loads", "Mine"):
        assert main(["monitor", "check", "train.log", "--dialect", wrong]) == 2
        assert f"--dialect {wrong}: " in capsys.readouterr().err


def test_names_of_ours_or_of_the_log(tmp_path: Path) -> None:
    """Known keys get our names; with --raw the log's own, and its values."""
    log = tmp_path / "train.log"
    log.write_text("".join(f"step:{i} - actor/pg_loss:0.5 - critic/score/mean:0.25 - my/key:{i}\n" for i in range(3)))
    for raw, keys in (
        ([], ["my/key", "policy/loss", "reward/mean"]),
        (["--raw"], ["actor/pg_loss", "critic/score/mean", "my/key"]),
    ):
        target = tmp_path / "out.csv"
        assert main(["monitor", "export", str(log), "--to", "csv", "-o", str(target), *raw]) == 0
        header, first, *_ = csv.reader(target.read_text().splitlines())
        assert keys == [name for name in header if "/" in name]
        assert "0.5" in first
    rows = tmp_path / "train.jsonl"
    rows.write_text('{"step": 1, "actor/ppo_kl": 0.5, "lr": 1}\n{"step": 2, "actor/ppo_kl": 0.25, "lr": 1}\n')
    assert [column.key for column in read_table(rows).columns] == ["lr", "policy/kl_old"]
    assert [column.key for column in read_table(rows, raw=True).columns] == ["actor/ppo_kl", "lr"]


def store(tmp_path: Path, **over: object) -> Store:
    points = Points(tmp_path / "run.wandb")
    for step in range(4):
        points.add("actor/pg_loss", step, 0.5, 100.0 + step)
    base: dict[str, object] = {
        "kind": "wandb",
        "path": tmp_path / "run.wandb",
        "name": "a",
        "columns": points.columns(),
    }
    return Store(**base | over)  # type: ignore[arg-type]


def test_what_a_store_says_beside_its_numbers(tmp_path: Path) -> None:
    """Problems become a finding, settings are the run's, restarts are its own."""
    problem = Problem(file=tmp_path / "run.wandb", place="byte 812", message="checksum differs")
    config = {"kl": {"loss_coef": 0.0}, "names": [1, 2], "none": None}
    found, _ = run_of_store(store(tmp_path, problems=(problem,), config=config, restarts=(2,)), tmp_path, now=200.0)
    assert ({"kl.loss_coef": "0.0"}, (2,)) == (dict(found.settings), found.restarts)
    assert (f"{tmp_path}/run.wandb, byte 812: checksum differs",) == found.problems
    assert np.allclose(found.series("policy/loss").values, 0.5)


@pytest.mark.parametrize(
    ("exit_code", "console", "state", "message"),
    [
        (None, (), State.UNFINISHED, ""),
        (0, (), State.FINISHED, ""),
        (0, ("torch.OutOfMemoryError: CUDA out of memory.",), State.FINISHED, ""),
        (3, (), State.FAILED, "the process left with exit code 3"),
        (1, ("torch.OutOfMemoryError: CUDA out of memory.",), State.FAILED, "torch.OutOfMemoryError: CUDA out of"),
        (1, ("Traceback (most recent call last):", "ValueError: too long"), State.FAILED, "ValueError: too long"),
    ],
)
def test_how_a_stores_run_ended(
    tmp_path: Path, exit_code: int | None, console: tuple[str, ...], state: State, message: str
) -> None:
    """The exit code tells whether, its output why; an exit code of 0 outweighs what was printed before."""
    found, _ = run_of_store(store(tmp_path, exit_code=exit_code, console=console), tmp_path, now=104.0)
    errors = [event for event in found.events if event.event == "error"]
    assert state is found.state
    assert [message] * bool(message) == [str(event.data["message"])[: len(message)] for event in errors]
    assert all("line" not in event.data for event in errors)  # a line of the output is in no file


def test_phases_come_back_from_an_export(tmp_path: Path) -> None:
    """A run of ours that went to a CSV file and back has its phases, not metrics of that name."""
    run = write_run(tmp_path / "run", step_records(healthy_metrics(9)))
    target = tmp_path / "out.csv"
    assert main(["monitor", "export", str(run), "--to", "csv", "-o", str(target)]) == 0
    back = load_run(target)
    assert sorted(load_run(run).seconds) == sorted(back.seconds)
    assert sorted(load_run(run).metrics) == sorted(back.metrics)
