"""`--format` and `--fail-on` of every command that judges something."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_cli.main import main

Call = Callable[..., tuple[int, str]]

pytestmark = pytest.mark.component


@pytest.fixture
def commands(run: Path, model: Path, tmp_path: Path) -> dict[str, list[str]]:
    """A call of each command that ends well, with a warning or a note at most."""
    return {
        "verify": ["verify", str(run)],
        "locate": ["locate", str(run)],
        "collect": ["collect", str(run), "--to", str(tmp_path / "collected")],
        "preflight": ["preflight", str(run), "--expect", "shared"],
        "merge": ["merge", str(model), str(tmp_path / "merged")],
    }


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let locate look at this test's folders only."""
    monkeypatch.setattr("orz_ckpt.node.roots._all_roots", lambda _: iter([(str(tmp_path / "home"), "home")]))
    (tmp_path / "home").mkdir()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """`orz ckpt` with arguments: exit code and stdout."""

    def run(*words: str) -> tuple[int, str]:
        code = main(["ckpt", *words])
        return int(code), capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", ["verify", "locate", "collect", "preflight", "merge"])
def test_every_format(commands: dict[str, list[str]], name: str, call: Call) -> None:
    """Each is well formed, names the command or the verdict, and has the exit code of the text."""
    words = commands[name]
    code, text = call(*words)
    assert (0, True) == (code, text.startswith("OK "))
    code, document = call(*words, "--json")
    shape = json.loads(document)
    assert (0, 1, "ok") == (code, shape["v"], shape["status"])
    code, document = call(*words, "--format", "sarif")
    (sarif,) = json.loads(document)["runs"]
    assert (0, "ok", 0) == (code, sarif["properties"]["status"], sarif["invocations"][0]["exitCode"])
    code, document = call(*words, "--format", "junit")
    suite = ET.fromstring(document).find("testsuite")  # noqa: S314  we wrote it
    assert suite is not None
    assert (0, "0", True) == (code, suite.get("failures"), suite.get("name", "").startswith(f"orz ckpt {name}"))
    code, document = call(*words, "--format", "github")
    assert (0, True) == (code, document.splitlines()[-1].startswith("ok "))
    code, document = call(*words, "--json", "--format", "junit")
    assert 2 == code


def test_fail_on(tmp_path: Path, call: Call) -> None:
    """A warning fails a command only where it was asked to: locate warns of an older step that lacks a file."""
    for step, shards in ((1, 1), (2, 2)):
        folder = tmp_path / "run" / f"iter{step}"
        folder.mkdir(parents=True)
        for number in range(1, shards + 1):
            save_file({"w": np.ones(3, "<f4")}, folder / f"model-{number:05d}-of-00002.safetensors")
    assert 0 == call("locate", str(tmp_path / "run"))[0]
    code, document = call("locate", str(tmp_path / "run"), "--fail-on", "warn", "--json")
    assert (1, "failed") == (code, json.loads(document)["status"])


def test_a_failure_in_each_format(tmp_path: Path, call: Call) -> None:
    """What locate does not find is a failed test case, an error annotation, and an error result."""
    words = ("locate", str(tmp_path / "nothing"))
    code, document = call(*words, "--format", "junit")
    suite = ET.fromstring(document).find("testsuite")  # noqa: S314  we wrote it
    assert suite is not None
    assert (1, "1") == (code, suite.get("failures"))
    code, document = call(*words, "--format", "github")
    assert (1, True) == (code, "::error " in document)
    assert "title=orz ckpt%3A nothing_located" in document
    code, document = call(*words, "--format", "sarif")
    assert (1, "nothing_located") == (code, json.loads(document)["runs"][0]["results"][0]["ruleId"])


def test_inspect_has_the_formats_too(model: Path, call: Call) -> None:
    """What the readers find decides in every format."""
    (model / "model.safetensors.index.json").write_text("{", encoding="utf-8")
    for option in ("--json", "--format=junit", "--format=sarif", "--format=github"):
        code, document = call("inspect", str(model), option)
        assert (1, True) == (code, bool(document))
