"""vLLM's and SGLang's own lines, and the step that they go to."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects import Dialect
from orz_monitor.dialects.engines import Engines
from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.log import Log, Row
from orz_monitor.reading import read_chunks
from orz_monitor.row_steps import numbered

pytestmark = pytest.mark.unit

V1 = (
    "(vLLMHttpServer pid=9) INFO 04-28 22:54:32 [loggers.py:257] Engine 000: Avg prompt throughput: 0.0 tokens/s, "
    "Avg generation throughput: 5.4 tokens/s, Running: 1 reqs, Waiting: 14 reqs, Preemptions: 3, "
    "GPU KV cache usage: 76.5%, Prefix cache hit rate: 92.0%"
)
V0 = (
    "INFO 02-21 22:59:11 metrics.py:455] Avg prompt throughput: 12.5 tokens/s, "
    "Avg generation throughput: nan tokens/s, "
    "Running: 16 reqs, Swapped: 0 reqs, Pending: 2 reqs, GPU KV cache usage: 92.1%, CPU KV cache usage: 0.0%."
)
DECODE = (
    "[2026-09-04 01:00:00 TP0] Decode batch, #running-req: 128, #token: 51234, token usage: 0.83, cuda graph: True, "
    "gen throughput (token/s): 3120.4, #queue-req: 12, "
)
PREFILL = (
    "[2026-09-04 01:00:00 TP0] Prefill batch. #new-seq: 1, #new-token: 5, #cached-token: 7, token usage: 0.01, "
    "#running-req: 0, #queue-req: 3"
)


def read(*lines: str, dialects: tuple[type[Dialect], ...] = (Engines,)) -> Log:
    return read_chunks([("\n".join(lines) + "\n").encode()], dialects=dialects)


def steps_of(log: Log) -> list[int]:
    ledger = numbered(log, [Verl(), Engines()])
    return [
        int(step)
        for step, shape in zip(ledger.step, ledger.shape, strict=True)
        if ledger.shapes[int(shape)][0] == "engines"
    ]


def rows(log: Log) -> list[Row]:
    return [entry for entry in log.entries if isinstance(entry, Row) and entry.dialect == "engines"]


def values(row: Row) -> dict[str, float]:
    return dict(zip(row.keys, row.values, strict=True))


def test_vllm_of_both_generations() -> None:
    """V0 says Pending, V1 says Waiting; NaN is a value."""
    first, second = rows(read(V1, V0))
    assert values(first) == pytest.approx(
        {
            "Avg prompt throughput": 0,
            "Avg generation throughput": 5.4,
            "Running": 1,
            "Waiting": 14,
            "Preemptions": 3,
            "GPU KV cache usage": 0.765,
            "Prefix cache hit rate": 0.92,
        }
    )
    found = values(second)
    assert str(found.pop("Avg generation throughput")) == "nan"
    assert found == pytest.approx(
        {
            "Avg prompt throughput": 12.5,
            "Running": 16,
            "Swapped": 0,
            "Pending": 2,
            "GPU KV cache usage": 0.921,
            "CPU KV cache usage": 0,
        }
    )


def test_sglang() -> None:
    """Prefills and decodes are two series; the dot after `batch` became a comma."""
    decode, old, prefill = rows(read(DECODE, DECODE.replace("batch,", "batch."), PREFILL))
    assert values(decode) == values(old)
    assert values(decode) == {
        "Decode/#running-req": 128,
        "Decode/#token": 51234,
        "Decode/token usage": 0.83,
        "Decode/cuda graph": 1,
        "Decode/gen throughput (token/s)": 3120.4,
        "Decode/#queue-req": 12,
    }
    assert values(prefill)["Prefill/#cached-token"] == 7
    assert values(prefill)["Prefill/#queue-req"] == 3


def test_glued_and_torn_records() -> None:
    """Two records without a newline between are two; a number whose unit is missing may be half a number."""
    cut = V1[: V1.index("14 reqs") + 1]
    found = rows(read(V1 + V1.replace("14 reqs", "15 reqs"), cut, "Avg prompt throughput: ", "#queue-req: "))
    assert [values(row).get("Waiting") for row in found] == [14, 15, None]


def test_lines_go_to_the_step_that_ends_next() -> None:
    """Those after the last step go to it; a log of engines alone counts its records."""
    steps = [f"step:{step} - actor/pg_loss:0.5 - actor/lr:1e-6" for step in (4, 5)]
    log = read(V1, steps[0], V1, V1, steps[1], V1, dialects=(Verl, Engines))
    assert steps_of(log) == [4, 5, 5, 5]
    assert steps_of(read(V1, V1, V1)) == [0, 1, 2]


def test_a_file_of_its_own_goes_by_the_clock(tmp_path: Path) -> None:
    """SGLang's lines have dates; the step that ends next by the clock is meant."""
    (tmp_path / "engine.log").write_text(
        "".join(DECODE.replace("01:00:00", f"01:{minute:02}:00") + "\n" for minute in (0, 5, 15)), encoding="utf-8"
    )
    lines = [
        f"[2026-09-04 01:{10 * step:02}:00,000] [INFO] [a.py:1:f] step:{step} - actor/lr:1e-6 - x:1" for step in (1, 2)
    ]
    (tmp_path / "trainer.log").write_text("\n".join(lines), encoding="utf-8")
    run = load_run(tmp_path)
    assert run.framework == "verl"
    assert run.metrics["engine/kv_cache_usage"].steps.tolist() == [1, 2]
    assert run.metrics["engine/requests_waiting"].values.tolist() == [12, 12]


def test_an_unknown_trainer_above_an_engine(tmp_path: Path) -> None:
    """The engine's numbers don't keep the fallback from reading the trainer's."""
    path = tmp_path / "train.log"
    trained = "".join(f"iteration {i}: loss = 0.5, reward = 0.25\n" for i in (1, 2, 3))
    path.write_text(f"{V1}\n{trained}", encoding="utf-8")
    run = load_run(path)
    assert run.framework == "generic"
    assert run.metrics["reward/mean"].values.tolist() == [0.25, 0.25, 0.25]
    assert run.metrics["engine/requests_waiting"].values.tolist() == [14]


def engine_line(usage: float, waiting: int, running: int, rate: float) -> str:
    line = V1.replace("76.5%", f"{usage}%").replace("Waiting: 14", f"Waiting: {waiting}")
    return line.replace("Running: 1 ", f"Running: {running} ").replace("5.4 tokens/s", f"{rate} tokens/s")


IDLE = engine_line(0.0, 0, 0, 0.0)


def steps_with(lines: list[str], num_steps: int) -> str:
    """Write steps of a trainer that takes turns with its engine, which is idle when a step ends."""
    return "".join(
        "\n".join([*lines, IDLE, f"step:{step} - actor/pg_loss:0.5 - actor/lr:1e-6"]) + "\n"
        for step in range(num_steps)
    )


@pytest.mark.parametrize(
    ("lines", "usage", "waiting", "running", "rate"),
    [
        ([(99.5, 14, 100, 5000), (98.0, 0, 90, 4000)], 0.995, 14, 100, 4500),
        ([(99.0, 0, 100, 5000), (40.0, 200, 50, 3000)], 0.4, 200, 50, 4000),  # full, but not while requests waited
        ([(30.0, 0, 4, 100), (20.0, 0, 8, 200)], 0.3, 0, 4, 150),
        ([(50.0, 9, 0, 0), (50.0, 3, 0, 0)], 0.5, 3, 0, 0),  # of equal ones the last
        ([], 0.0, 0, 0, 0),
    ],
)
def test_the_busiest_line_of_a_step_counts(
    tmp_path: Path, lines: list[tuple[float, int, int, float]], usage: float, waiting: int, running: int, rate: float
) -> None:
    """Usage and requests are of one line, the rate is the mean of the lines with requests; idle ones hide nothing."""
    path = tmp_path / "train.log"
    path.write_text(steps_with([engine_line(*line) for line in lines], 3), encoding="utf-8")
    run = load_run(path)
    found = {
        name: run.metrics[f"engine/{name}"].values.tolist()
        for name in ("kv_cache_usage", "requests_waiting", "requests_running", "generation_tokens_per_second")
    }
    expected = (usage, waiting, running, rate)
    assert [found[name] for name in found] == [pytest.approx([value] * 3) for value in expected]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([(99.5, 14, 100, 5000)] * 8, "kv_full"),
        ([(99.5, 0, 100, 5000)] * 4 + [(20.0, 14, 100, 5000)] * 4, None),
        ([(50.0, 14, 100, 10)] * 8, "generation_starved"),
    ],
)
def test_a_trainer_that_takes_turns_hides_no_fault(
    tmp_path: Path, lines: list[tuple[float, int, int, float]], code: str | None
) -> None:
    """A fault that every step has is found although each step ends with an idle engine."""
    path = tmp_path / "train.log"
    sound = steps_with([engine_line(50.0, 0, 100, 5000)] * 8, 20)
    sick = steps_with([engine_line(*line) for line in lines], 30).splitlines(keepends=True)[20 * (len(lines) + 2) :]
    path.write_text(sound + "".join(sick), encoding="utf-8")
    codes = {finding.code for finding in judge(load_run(path)).findings}
    assert codes & {"kv_full", "generation_starved"} == ({code} if code else set())


def test_records_without_a_number_are_no_rows() -> None:
    """Torn right behind the word that they are known by, one or many."""
    torn = "(LLMActor pid=1) Avg prompt throughput: "
    assert not rows(read(torn, torn + "x", torn))
