"""Lists between home-made steps, such as `bleu=3 chrf=4`, are metrics where they recur, and else counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects import known_dialects, with_fallback
from orz_monitor.dialects.generic import Generic
from orz_monitor.dialects.lists import has_pairs, is_list
from orz_monitor.loading import load_run
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks
from orz_monitor.run import Run

pytestmark = pytest.mark.unit

KNOWN = {"policy/total_loss", "reward/mean"}
ENGINE = (
    "INFO 08-13 19:25:45 [loggers.py:116] Engine 000: Avg prompt throughput: 3.0 tokens/s, Avg generation throughput: "
    "5.4 tokens/s, Running: 1 reqs, Waiting: 14 reqs, GPU KV cache usage: 76.5%, Prefix cache hit rate: 0.0%"
)


def run_of(folder: Path, text: str) -> Run:
    path = folder / "train.log"
    path.write_text(text, encoding="utf-8")
    return load_run(path)


def with_steps(*between: str, num_steps: int = 5) -> str:
    """Return a log whose steps have the same lines behind them, with the step in place of `@`."""
    lines = [
        "\n".join([f"step {i} | loss {i} | reward 2", *between]).replace("@", str(i)) for i in range(1, num_steps + 1)
    ]
    return "\n".join(lines) + "\n"


def others(run: Run) -> dict[str, tuple[list[int], list[float]]]:
    """Return the metrics that the lines between the steps gave."""
    return {
        name: (series.steps.tolist(), series.values.tolist())
        for name, series in run.metrics.items()
        if name not in KNOWN
    }


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("bleu=@ chrf=@", ["bleu", "chrf"]),
        ("bleu: @ | chrf: @", ["bleu", "chrf"]),
        ("[eval] bleu=@, chrf=@", ["bleu", "chrf"]),
        ("12:00:01 INFO [eval.py:7] bleu = @ chrf = @", ["bleu", "chrf"]),
        ("{'bleu': @, 'chrf': @}", ["bleu", "chrf"]),
        ("bleu=@", ["bleu"]),
        ("val_bleu: @", ["val_bleu"]),
        ("for the whole test set bleu=@ chrf=@ ter=@ in all", ["bleu", "chrf", "ter"]),
    ],
)
def test_lists_that_recur_are_metrics(tmp_path: Path, line: str, names: list[str]) -> None:
    """Under their own names, at the step that they follow; nothing tells that they are a trainer's but their place."""
    run = run_of(tmp_path, with_steps(line))
    assert others(run) == {name: ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) for name in names}
    assert run.coverage.unrecognised == tuple(names)
    assert run.coverage.num_missed_lines == 0


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_lists_are_counted_until_they_recur_in_three_steps(tmp_path: Path, num_steps: int) -> None:
    """However often they come in one of them; from the third step on, the earlier ones are read, too."""
    text = with_steps(num_steps=4) + with_steps("bleu=1 chrf=@", "bleu=2 chrf=@", num_steps=4 + num_steps).split(
        "step 5", 1
    )[1].join(["step 5", ""])
    run = run_of(tmp_path, text)
    steps = [*range(5, 5 + num_steps)]
    assert others(run) == ({} if num_steps < 3 else {"bleu": (steps, [2.0] * 3), "chrf": (steps, [5.0, 6.0, 7.0])})
    assert run.coverage.num_missed_lines == (2 * num_steps if num_steps < 3 else 0)


@pytest.mark.parametrize(
    "line",
    [
        "so x = 3 and y = 4",
        "AB=3, BC=4",
        "x=3, y=4",
        "Answer: 42",
        "Predicted: 42 | Expected: 42",
        "extracted answer=3 ground truth=4",
        "We see that the sum=3 is less than what the area=4 would be",
        "Loading shard 3 of 7, 5 files",
        "saved to /runs/3/model in 3.2 s",
        "it is 10:30:05 now, and 11:45:00 there",
        "see https://example.org/find?page=3&size=4",
        "result: 42",
    ],
)
def test_text_is_no_metric(tmp_path: Path, line: str) -> None:
    """However often it recurs in a log that is a trainer's; it is not counted as one, either."""
    run = run_of(tmp_path, with_steps(line))
    assert others(run) == {}
    assert run.coverage.num_missed_lines == 0


def test_settings_above_the_first_step_are_none(tmp_path: Path) -> None:
    """Nothing says that they are of a step."""
    run = run_of(tmp_path, "seed=1 width=2\n" + with_steps())
    assert others(run) == {}


def test_lists_of_a_process_that_says_no_step_are_counted(tmp_path: Path) -> None:
    """Nobody knows which step they are of."""
    text = "".join(f"(A pid=1) step {i} loss 1 reward 3\n(B pid=2) bleu=3 chrf=4\n" for i in (1, 2, 3, 4))
    run = run_of(tmp_path, text)
    assert others(run) == {}
    assert run.coverage.num_missed_lines == 4


def test_lines_of_an_engine_are_read_once(tmp_path: Path) -> None:
    """By its own dialect, though they are lists."""
    run = run_of(tmp_path, with_steps(ENGINE, "bleu=@ chrf=@"))
    alone = run_of(tmp_path, with_steps(ENGINE))
    assert run.metrics.keys() == {*alone.metrics, "bleu", "chrf"}
    assert "Running" not in alone.metrics
    assert run.metrics["engine/requests_waiting"].values.tolist() == [14] * 5


@pytest.mark.parametrize(
    "between", [["a{0}=3 bb{0}=4"], ["bleu=3 chrf=4"] * 3, ["AB=3 BC=4", "x = 3"], [ENGINE, "bleu=3 chrf=4"]]
)
def test_lists_are_read_in_linear_time(between: list[str]) -> None:
    """Behind 4,000 steps in one batch: work that grew with the square of their number would take many minutes."""
    text = "".join(
        f"step {i} loss 1 reward 2\n" + "".join(line.format(i) + "\n" for line in between) for i in range(4000)
    )
    log = read_chunks([text.encode()], dialects=with_fallback(known_dialects()))
    assert log.votes["generic"] >= 4000


def test_what_is_held_is_bounded() -> None:
    """Lists that never recur, and one that comes ever again in one step."""
    text = "".join(f"step {i} loss 1 reward 2\n" for i in range(3))
    text += "".join(f"one{i}=3 two{i}=4\n" for i in range(3000)) + "bleu=3 chrf=4\n" * 3000
    dialect = Generic()
    log = Log()
    read_chunks([text.encode()], log=log, dialects=[lambda: dialect])  # type: ignore[list-item]
    assert log.files[0].num_missed_lines == 6000
    assert len(dialect._lists._waiting) <= 1000
    assert all(len(waiting.lines) <= 100 for waiting in dialect._lists._waiting.values())


def test_the_cheap_look_overlooks_no_list() -> None:
    """What is a list has the pairs that are looked for first."""
    for line in (
        b"bleu=3 chrf=4",
        b"{'bleu': 3, 'chrf': 4}",
        b"bleu=3",
        b"val_bleu: 3",
        b"bleu = np.float64(3) chrf = .4",
    ):
        assert has_pairs(line)
        assert is_list(line, line.count(b"=") + line.count(b":"))
