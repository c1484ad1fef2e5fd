"""A log of an inference engine alone says nothing of training, and is never a pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from orz_cli.main import main

pytestmark = pytest.mark.component

VLLM: Final = (
    "(EngineCore pid=3) INFO 04-28 22:{minute:02d}:32 [loggers.py:257] Engine 000: "
    "Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 51.4 tokens/s, Running: 1 reqs, Waiting: 0 reqs, "
    "GPU KV cache usage: 47.5%, Prefix cache hit rate: 92.0%\n"
)
SGLANG: Final = (
    "[2026-04-28 22:{minute:02d}:32 TP0] Decode batch. #running-req: 128, #token: 51234, token usage: 0.83, "
    "cuda graph: True, gen throughput (token/s): 3120.4, #queue-req: 0\n"
)
CRASH: Final = (
    'Traceback (most recent call last):\n  File "core.py", line 1, in <module>\n    run()\n'
    "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n"
)
STEP: Final = "step:1 - actor/pg_loss:0.5 - critic/score/mean:0.3\n"


def lines(line: str, num: int = 40) -> str:
    return "".join(line.format(minute=minute) for minute in range(num))


def checked(path: Path, text: str, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    path.write_text(text)
    code = main(["monitor", "check", str(path), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("line", [VLLM, SGLANG], ids=["vllm", "sglang"])
def test_an_engine_alone_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    """Nothing is found and nothing was decided: the reason says what was read and what to give."""
    log = tmp_path / "engine.log"
    code, said = checked(log, lines(line), capsys)
    assert (3, "inconclusive", []) == (code, said["status"], said["findings"])
    assert said["runs"][0]["reason"] == (
        f"{log}: only lines of an inference engine, which say nothing of training\n"
        "  -> give the trainer's own log, in a folder with this one to have both judged"
    )
    assert 3 == main(["monitor", "check", str(log)])
    text = capsys.readouterr().out
    assert "only lines of an inference engine" in text
    assert "judged as grpo: no known metric tells its kind" in text
    assert "recognised by their names alone" not in text


def test_a_rule_of_engines_speaks_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A full cache is told, and fails a check that warnings fail; else nothing is decided."""
    full = lines(VLLM.replace("47.5%", "97.5%").replace("Waiting: 0", "Waiting: 14"))
    code, said = checked(tmp_path / "engine.log", full, capsys)
    assert (3, ["kv_full"]) == (code, [finding["code"] for finding in said["findings"]])
    code, said = checked(tmp_path / "engine.log", full, capsys, "--fail-on", "warn")
    assert (1, "failed") == (code, said["status"])


def test_an_engine_that_crashed_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its last words are of a failure, whatever it says of training."""
    code, said = checked(tmp_path / "engine.log", lines(VLLM) + CRASH, capsys)
    assert (1, ["crash"]) == (code, [f["code"] for f in said["findings"] if f["severity"] == "error"])


def test_beside_a_trainer_it_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One metric of a trainer is enough to decide by, on a line below or in a file beside."""
    code, said = checked(tmp_path / "train.log", lines(VLLM, 5) + STEP, capsys)
    assert (0, "ok") == (code, said["status"])
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "engine.log").write_text(lines(VLLM, 5))
    (folder / "train.log").write_text(STEP)
    assert 0 == main(["monitor", "check", str(folder)])


def test_a_report_of_an_engine_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its verdict is that nothing could be decided, and why."""
    log = tmp_path / "engine.log"
    log.write_text(lines(VLLM))
    page = tmp_path / "report.html"
    main(["monitor", "report", str(log), "-o", str(page)])
    capsys.readouterr()
    html = page.read_text(encoding="utf-8")
    assert "Could not decide" in html
    assert "Only lines of an inference engine, which say nothing of training." in html
