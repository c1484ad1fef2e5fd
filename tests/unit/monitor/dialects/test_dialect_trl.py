"""TRL's dictionaries: quoted or not, with the step in the bar before them."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

from orz_monitor.dialects.trl import Trl
from orz_monitor.loading import load_run
from orz_monitor.log import Row
from orz_monitor.reading import read_chunks
from orz_monitor.run import State

pytestmark = pytest.mark.unit

LOGS = Path(os.environ.get("ORZ_TEST_DATA", Path(__file__).parents[5] / "shared" / "data")) / "logs"
LOG = LOGS / "trl-hotpotqa-grpo-v2-full.log"


def rows(text: str) -> list[Row]:
    log = read_chunks([text.encode()], dialects=[Trl])
    Trl().number(log)
    return [entry for entry in log.entries if isinstance(entry, Row)]


def test_quoted_values_and_the_step_of_the_bar() -> None:
    """Transformers 5 quotes its four digits; the dictionary is glued to the bar."""
    row = rows(
        "  4%|▍         | 9/200 [03:00<1:04:17, 20.20s/it]"
        "{'loss': '-0.007415', 'grad_norm': '0.2584', 'learning_rate': '9.55e-06', 'kl': 'nan', 'clip_ratio': None, "
        "'rewards/format/mean': '0.5', 'epoch': '0.045'}"
    )[0]
    assert row.step == 9
    values = dict(zip(row.keys, row.values, strict=True))
    assert values.pop("kl") != values.get("kl")
    assert values == {
        "loss": -0.007415,
        "grad_norm": 0.2584,
        "learning_rate": 9.55e-06,
        "rewards/format/mean": 0.5,
        "epoch": 0.045,
    }


def test_a_bar_on_the_line_before_and_none_at_all() -> None:
    """Steps without a bar go on by the usual interval."""
    found = rows(
        " 10%|#  | 10/100 [00:10<01:30,  1.00s/it]\n{'loss': 0.1, 'learning_rate': 1e-6}\n"
        " 20%|## | 20/100 [00:20<01:20,  1.00s/it]\n{'loss': 0.2, 'learning_rate': 1e-6}\n"
        "a line of text\n{'loss': 0.3, 'learning_rate': 1e-6}\n"
    )
    assert [row.step for row in found] == [10, 20, 30]


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_a_bar_on_some_lines_only(tmp_path: Path, every: int) -> None:
    """The bar of a line is that line's: the ones between are counted by what a row takes, from the first row on."""
    path = tmp_path / "train.log"
    text = ""
    for n in range(1, 13):
        text += f" {n}%|# | {5 * n}/200 [00:{n:02}<01:30,  1.00s/it]" if n % every == every // 2 else ""
        text += f"{{'loss': 0.1, 'learning_rate': 1e-6, 'reward': {n / 100}}}\n"
    path.write_text(text)
    run = load_run(path)
    assert run.restarts == ()
    assert run.steps.tolist() == list(range(5, 65, 5))
    assert run.series("reward/mean").values.tolist() == [n / 100 for n in range(1, 13)]


def test_evaluations_and_the_end_are_no_steps_of_training(tmp_path: Path) -> None:
    """The last dictionary says that the run finished, and its averages are not a step's values."""
    path = tmp_path / "train.log"
    path.write_text(
        "10/20 [00:10<00:10, 1.00s/it]{'loss': 0.1, 'learning_rate': 1e-6, 'reward': 0.5}\n"
        "10/20 [00:10<00:10, 1.00s/it]{'eval_loss': 0.4, 'eval_runtime': 3.5}\n"
        "20/20 [00:20<00:00, 1.00s/it]{'loss': 0.2, 'learning_rate': 1e-6, 'reward': 0.6}\n"
        "20/20 [00:20<00:00, 1.00s/it]{'train_runtime': 20.0, 'train_loss': 0.15, 'epoch': 1.0}\n"
    )
    run = load_run(path)
    assert run.framework == "trl"
    assert run.steps.tolist() == [10, 20]
    assert run.series("reward/mean").values.tolist() == [0.5, 0.6]
    assert run.metrics["eval_loss"].steps.tolist() == [10]
    assert run.state is State.FINISHED


def test_the_public_log_loses_no_value() -> None:
    """Every number of every dictionary is there, every key has a meaning, and SIGHUP is how it ended."""
    if not LOG.is_file():
        pytest.skip(f"{LOG} is not on this machine")
    run = load_run(LOG)
    said = [ast.literal_eval(text) for text in re.findall(r"\{'loss'[^}]*\}", LOG.read_text(errors="replace"))]
    assert run.steps.tolist() == list(range(20, 921, 20))
    names = {key: name for name, series in run.metrics.items() for key in series.raw_keys}
    assert set(names) == {key for entry in said for key in entry}
    for key, name in names.items():
        assert run.metrics[name].values.tolist() == [entry[key] for entry in said if key in entry]
    assert run.coverage.unrecognised == ()
    assert run.state is State.INTERRUPTED
    assert run.events[-1].data["message"] == "Received 1 death signal, shutting down workers"
