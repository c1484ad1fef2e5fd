"""`orz ckpt merge` and `inspect` as a user runs them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Orz = Callable[..., "Run"]

pytestmark = pytest.mark.component


@dataclass(frozen=True)
class Run:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def orz(capsys: pytest.CaptureFixture[str]) -> Orz:
    """The command with arguments, in this process."""

    def call(*arguments: str | Path) -> Run:
        code = main(["ckpt", *map(str, arguments)])
        captured = capsys.readouterr()
        return Run(int(code), captured.out, captured.err)

    return call


def test_merge_says_what_it_did_and_what_comes_next(orz: Orz, model: Path, tmp_path: Path) -> None:
    """Exit 0: what was written, in which type, and the command that verifies it, which then passes."""
    run = orz("merge", model, tmp_path / "out", "--dtype", "bfloat16", "--max-shard-size", "4kB")
    lines = run.stdout.splitlines()

    assert (0, "") == (run.returncode, run.stderr)
    assert f"OK {tmp_path / 'out'}" == lines[0]
    assert "27 tensors" in run.stdout
    assert "bfloat16" in run.stdout
    assert f"  next: orz ckpt verify {tmp_path / 'out'}" == lines[-1]
    assert 0 == orz("verify", tmp_path / "out", "--require-manifest").returncode


def test_merge_again(orz: Orz, model: Path, tmp_path: Path) -> None:
    """The same command again is exit 0 and says that nothing was to be done."""
    orz("merge", model, tmp_path / "out")
    run = orz("merge", model, tmp_path / "out")

    assert 0 == run.returncode
    assert "the same merge was done before: nothing was written" in run.stdout


def test_merge_json(orz: Orz, model: Path, tmp_path: Path) -> None:
    """The JSON shape that all judging commands share, with what was written behind."""
    document = json.loads(orz("merge", model, tmp_path / "out", "--json").stdout)

    assert (1, "ok", []) == (document["v"], document["status"], document["findings"])
    assert (27, 1, True, "hf") == (document["tensors"], document["files"], document["written"], document["format"])
    assert ["F32"] == document["dtypes"]
    assert (tmp_path / "out" / "model.safetensors").stat().st_size == document["bytes"]


def test_merge_of_a_broken_checkpoint(orz: Orz, model: Path, tmp_path: Path) -> None:
    """Exit 1 with the list of what is wrong, in text and in JSON; nothing is written."""
    (model / "model-00002-of-00002.safetensors").unlink()
    text, document = orz("merge", model, tmp_path / "out"), orz("merge", model, tmp_path / "out", "--json")

    assert (1, 1) == (text.returncode, document.returncode)
    assert f"FAILED {model}" == text.stdout.splitlines()[0]
    assert "nothing was written" in text.stdout
    assert "file_missing" in [entry["code"] for entry in json.loads(document.stdout)["findings"]]
    assert not list(tmp_path.glob("out*"))


def test_merge_exit_codes(orz: Orz, model: Path, step: Path, tmp_path: Path) -> None:
    """2 for wrong usage, 3 where there are no weights, 1 where OUT is taken; each with a remedy, no traceback."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    out = tmp_path / "out"
    cases = [
        (2, orz("merge", tmp_path / "nothing", out)),
        (2, orz("merge", model)),
        (2, orz("merge", model, out, "--dtype", "int8")),
        (2, orz("merge", model, out, "--max-shard-size", "much")),
        (2, orz("merge", model, out, "--max-shard-size", "0")),
        (2, orz("merge", model, out, "--config", tmp_path / "empty")),
        (2, orz("merge", step, out)),
        (2, orz("merge", model, model / "inside")),
        (3, orz("merge", tmp_path / "empty", out)),
        (1, orz("merge", model, tmp_path / "taken")),
    ]

    for code, run in cases:
        assert (code, "") == (run.returncode, run.stdout)
        assert "Traceback" not in run.stderr
        assert "->" in run.stderr or "Usage" in run.stderr
    assert not list(tmp_path.glob("out*"))


def test_inspect_a_model(orz: Orz, model: Path) -> None:
    """The table names format, architecture, parameters, types; `--tensors` names each tensor."""
    (model / "modeling_mine.py").write_text("raise SystemExit(9)", encoding="utf-8")
    run = orz("inspect", model, "--tensors")

    assert (0, "") == (run.returncode, run.stderr)
    for words in (
        "Qwen2ForCausalLM",
        "5,040 in 27 tensors",
        "F32",
        "modeling_mine.py",
        "model.norm.weight",
        "[33, 16]",
    ):
        assert words in run.stdout


def test_inspect_json(orz: Orz, model: Path) -> None:
    """The JSON has every tensor with type, shape and bytes."""
    document = json.loads(orz("inspect", model, "--json").stdout)
    found = document["models"][0]

    assert ("ok", "hf", False) == (document["status"], document["kind"], found["remote_code"])
    assert (27, 5040, 4 * 5040) == (len(found["tensors"]), found["parameters"], found["bytes"])
    assert {"name": "lm_head.weight", "dtype": "F32", "shape": [33, 16], "bytes": 2112, "pieces": 1} in found["tensors"]


def test_inspect_a_step_and_a_run(orz: Orz, step: Path) -> None:
    """A step folder shows policy and critic; its run lists the steps and shows the newest committed one."""
    of_step = json.loads(orz("inspect", step, "--json").stdout)
    of_run = json.loads(orz("inspect", step.parent.parent, "--json").stdout)

    assert ["critic", "policy"] == [model["role"] for model in of_step["models"]]
    assert ("step", 50, "orz-train 0.1.0") == (
        of_step["kind"],
        of_step["models"][0]["step"],
        of_step["models"][0]["writer"],
    )
    assert ("run", [50]) == (of_run["kind"], [entry["step"] for entry in of_run["checkpoints"]])
    assert of_step["models"] == of_run["models"]
    assert "policy" in orz("inspect", step).stdout


def test_inspect_shows_what_is_wrong(orz: Orz, model: Path, tmp_path: Path) -> None:
    """A shard that is missing is listed with exit 1; a folder without weights is exit 3 and says where to search."""
    (model / "model-00002-of-00002.safetensors").unlink()
    run = orz("inspect", model)

    assert (1, "") == (run.returncode, run.stderr)
    assert "file_missing" in run.stdout
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "results.json").touch()
    empty = orz("inspect", tmp_path / "records")
    assert (3, "") == (empty.returncode, empty.stdout)
    assert "orz ckpt locate" in empty.stderr
