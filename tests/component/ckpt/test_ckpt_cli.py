"""`orz ckpt` as a user runs it: exit codes, what goes to which stream, and every format."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.checks import content
from orz_cli.exits import ExitCode
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Orz = Callable[..., "Run"]

pytestmark = pytest.mark.component

FORMATS = ["text", "json", "junit", "sarif", "github"]


@dataclass(frozen=True)
class Run:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def orz(capsys: pytest.CaptureFixture[str]) -> Orz:
    """`orz ckpt` with arguments, in this process."""

    def call(*arguments: str | Path) -> Run:
        code = main(["ckpt", *map(str, arguments)])
        captured = capsys.readouterr()
        return Run(int(code), captured.out, captured.err)

    return call


def orz_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`orz ckpt` as a process: what it writes meets a real pipe."""
    command = [sys.executable, "-m", "orz_cli", "ckpt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_a_verb(orz: Orz) -> None:
    """`orz ckpt` alone shows what it can do."""
    run = orz()

    assert "verify" in run.stdout + run.stderr


def test_help_states_the_exit_codes(orz: Orz) -> None:
    """The help text of `verify` lists what each exit code means."""
    run = orz("verify", "--help")

    assert 0 == run.returncode
    for words in ("0 all is well", "3", "4 refused", "130 interrupted"):
        assert words in " ".join(run.stdout.split())


def test_good_checkpoint(step: Path) -> None:
    """A good checkpoint: exit 0, one line says OK and the path, nothing on stderr."""
    run = orz_process("verify", step)

    assert (0, "") == (run.returncode, run.stderr)
    assert f"OK {step}" == run.stdout.splitlines()[0]
    assert "step 50 by orz-train 0.1.0" in run.stdout


def test_bad_checkpoint(orz: Orz, step: Path) -> None:
    """A bad one: exit 1, the first line says FAILED, then the file, what was expected and what to do."""
    (step / "policy" / "config.json").unlink()
    run = orz("verify", step)
    lines = run.stdout.splitlines()

    assert (1, f"FAILED {step}") == (run.returncode, lines[0])
    assert "  error file_missing  policy/config.json" in lines
    assert any(line.lstrip().startswith("-> ") for line in lines)
    assert "1 error" in lines[-1]


def test_exit_codes(orz: Orz, step: Path, model: Path, tmp_path: Path) -> None:
    """2 for wrong usage, 3 where nothing can be said, 4 for hostile content, 1 where asked to fail on warnings."""
    (tmp_path / "empty").mkdir()
    (model / "config.json").unlink()

    assert 2 == orz("verify", tmp_path / "nothing").returncode
    assert 2 == orz("verify").returncode
    assert 2 == orz("verify", step, "--level", "half").returncode
    assert 2 == orz("verify", step, "--json", "--format", "junit").returncode
    assert 3 == orz("verify", tmp_path / "empty").returncode
    assert 0 == orz("verify", model).returncode
    assert 1 == orz("verify", model, "--fail-on", "warn").returncode
    assert 1 == orz("verify", model, "--require-manifest").returncode
    (step / "policy" / "tokenizer.json").unlink()
    (step / "policy" / "tokenizer.json").symlink_to("/etc/hostname")
    assert 4 == orz("verify", step).returncode


def test_usage_error_has_no_traceback(orz: Orz, tmp_path: Path) -> None:
    """A path that is not there gives a message with the next step on stderr, and nothing on stdout."""
    run = orz("verify", tmp_path / "nothing")

    assert "" == run.stdout
    assert "does not exist" in run.stderr
    assert "Traceback" not in run.stderr


def test_json(orz: Orz, step: Path) -> None:
    """The JSON shape that all judging commands share, with path and tensor in each finding."""
    shard = step / "policy" / "model-00001-of-00002.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    run = orz("verify", step, "--json")
    report = json.loads(run.stdout)
    (found,) = report["findings"]

    assert (1, "") == (run.returncode, run.stderr)
    assert {"code", "severity", "message", "remedy", "path", "tensor"} == found.keys()
    assert ("digest_differs", "error", str(shard)) == (found["code"], found["severity"], found["path"])
    assert (1, "failed", str(step), "checkpoint", "full", 9, 54) == tuple(
        report[key] for key in ("v", "status", "path", "kind", "level", "files", "tensors")
    )
    assert sum(path.stat().st_size for path in step.rglob("*.*") if path.is_file() and ".orz" not in path.parts) == (
        report["bytes"] + (step / "manifest.json").stat().st_size
    )
    assert report["seconds"] >= 0


def test_run_in_json(orz: Orz, run: Path) -> None:
    """Of a run, each checkpoint has its verdict and the newest good one is named."""
    (run / "checkpoints" / "step_000030" / "manifest.json").unlink()
    report = json.loads(orz("verify", run, "--json").stdout)

    assert str(run / "checkpoints" / "step_000020") == report["newest_good"]
    assert ["ok", "ok", "failed"] == [part["status"] for part in report["parts"]]


def test_junit(orz: Orz, step: Path) -> None:
    """One test case a file; the broken one fails with its reason, and the counts are right."""
    (step / "state" / "rank_0.bin").unlink()
    suite = ET.fromstring(orz("verify", step, "--format", "junit").stdout).find("testsuite")  # noqa: S314  ours
    assert suite is not None
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]

    assert [str(step / "state" / "rank_0.bin")] == failed
    assert ("1", "0", "10") == (suite.get("failures"), suite.get("errors"), suite.get("tests"))
    assert 10 == len(list(suite.iter("testcase")))


def test_junit_says_error_where_nothing_could_be_decided(orz: Orz, tmp_path: Path) -> None:
    """Inconclusive is an error in JUnit's words, neither a failure nor a pass."""
    (tmp_path / "empty").mkdir()
    suite = ET.fromstring(orz("verify", tmp_path / "empty", "--format", "junit").stdout).find("testsuite")  # noqa: S314
    assert suite is not None

    assert ("0", "1") == (suite.get("failures"), suite.get("errors"))


def test_sarif(orz: Orz, step: Path) -> None:
    """Each result has a rule, a level and a place that a viewer can open."""
    (step / "a b.bin").write_bytes(b"")
    (run,) = json.loads(orz("verify", step, "--format", "sarif").stdout)["runs"]
    (result,) = run["results"]

    assert ("file_extra", "error") == (result["ruleId"], result["level"])
    assert "file_extra" == run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"]
    location = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert (step / "a b.bin").as_uri() == location["uri"]
    assert 1 == run["invocations"][0]["exitCode"]


def test_github(orz: Orz, step: Path) -> None:
    """One annotation a finding; no content of a name can end the line or begin another command."""
    (step / "x\n::error::y,%:z").write_bytes(b"")
    run = orz("verify", step, "--format", "github")
    lines = run.stdout.splitlines()

    assert 2 == len(lines)
    assert lines[0].startswith("::error file=")
    assert "title=orz ckpt%3A file_extra::" in lines[0]
    assert "%25%3Az" in lines[0]


@pytest.mark.parametrize("output", FORMATS)
def test_hostile_names(step: Path, output: str) -> None:
    """Names with control characters or broken encoding reach no terminal and break no format."""
    (step / "\x1b[2J").write_bytes(b"")
    (step / "caf\udce9").write_bytes(b"")
    run = orz_process("verify", step, "--format", output)

    assert (1, "") == (run.returncode, run.stderr)
    assert "\x1b" not in run.stdout
    if output in {"json", "sarif"}:
        json.loads(run.stdout)
    if output == "junit":
        ET.fromstring(run.stdout)  # noqa: S314  ours


def test_relative_paths(orz: Orz, step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings are named as the user named the checkpoint."""
    (step / "more.bin").write_bytes(b"")
    monkeypatch.chdir(step.parent)
    report = json.loads(orz("verify", step.name, "--json").stdout)

    assert f"{step.name}/more.bin" == report["findings"][0]["path"]


def test_interrupt(orz: Orz, step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while files are read ends at once with exit code 130, and no verdict."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(content, "read_once", interrupted)
    run = orz("verify", step)

    assert (130, "") == (run.returncode, run.stdout)


@pytest.mark.parametrize("verb", ["verify", "inspect", "locate", "diff", "manifest"])
def test_a_reader_that_leaves_is_no_failure(step: Path, tmp_path: Path, verb: str) -> None:
    """What was cut off may have held the verdict: not decided, and not a word."""
    shutil.copytree(step / "policy", tmp_path / "foreign")
    paths = {"diff": [step / "policy", step / "policy"], "manifest": [tmp_path / "foreign"]}.get(verb, [step])
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "orz_cli", "ckpt", verb, *paths], stdout=pipe, stderr=subprocess.PIPE, check=False
        )
    assert (ExitCode.INCONCLUSIVE, b"") == (done.returncode, done.stderr)


def test_progress_on_a_terminal(step: Path) -> None:
    """On a terminal a bar shows bytes on stderr; the verdict alone is on stdout."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "orz_cli", "ckpt", "verify", str(step)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:  # Linux: the other end is closed
            pass
        assert process.stdout is not None
        verdict = process.stdout.read()
    os.close(ours)

    assert (0, True) == (process.returncode, verdict.startswith(b"OK "))
    assert b"reading" in shown


def test_no_torch() -> None:
    """Verifying loads no torch: it works where none is installed."""
    source = "import sys, orz_ckpt.cli, orz_ckpt.verify, orz_ckpt.storage; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)

    assert "False" == run.stdout.strip()


def test_a_program_waits_for_nothing_that_draws(tmp_path: Path) -> None:
    """A report for a program, with no terminal to draw on, loads no rich."""
    save_file({"w": np.ones((2, 2), np.float32)}, tmp_path / "model.safetensors")
    command = [sys.executable, "-X", "importtime", "-m", "orz_cli", "ckpt", "verify", "--json", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "orz_ckpt.verify" in run.stderr
    assert "rich." not in run.stderr
