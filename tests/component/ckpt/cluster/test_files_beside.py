"""Files that no weights depend on, such as each node's own log: they may differ, and the checkpoint stays whole."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.cluster.beside import decides
from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.findings import Level
from orz_ckpt.manifest import dumps, load
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("path_alone")]

STEP = "run/checkpoint-7"


@pytest.fixture
def two(disks: Callable[..., Fleet], model: Path, tmp_path: Path) -> Fleet:
    """Two nodes that have all of a model."""
    for node in ("n1", "n2"):
        shutil.copytree(model, tmp_path / node / STEP)
    return disks(tmp_path, "n1", "n2")


@pytest.mark.parametrize(("first", "second"), [("a", "bb"), ("a", "b")])
@pytest.mark.parametrize("name", ["train.log", "training_args.json", "trainer_state.json"])
@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_a_log_of_each_node(level: Level, name: str, first: str, second: str, two: Fleet, tmp_path: Path) -> None:
    """Of another size or of other bytes, it is a warning; collected is the first, and the weights with it."""
    for node, text in (("n1", first), ("n2", second)):
        (tmp_path / node / STEP / name).write_text(text, encoding="utf-8")
    found = locate(two, ["/run"])
    report = verify_nodes(two, "/run", level=level)
    told = [entry for entry in report.findings if entry.code == "collect_conflict"]

    assert (Status.OK, True) == (found.status(), found.groups[0].complete), found.findings
    assert found.command.startswith("orz ckpt collect /run")
    assert (Status.OK, "checkpoint-7") == (report.status(), report.newest_good), report.findings
    assert [(Severity.WARN, True)] == [(entry.severity, name in entry.message) for entry in told]
    named = [entry for entry in found.findings if entry.code == "collect_conflict"]
    assert (len(first) != len(second)) == (len(named) == 1)
    done = collect(Here(), [str(tmp_path / node / "run") for node in ("n1", "n2")], tmp_path / "home")
    home = tmp_path / "home" / "checkpoint-7"

    assert [] == [entry for entry in done.findings if entry.severity is Severity.ERROR], done.findings
    assert first == (home / name).read_text(encoding="utf-8")
    assert {file.name for file in (tmp_path / "n1" / STEP).iterdir()} <= {file.name for file in home.iterdir()}


@pytest.mark.parametrize("name", ["qwen.tiktoken", "tekken.json", "tokenizer.model.v3", "chat_template.json"])
def test_a_tokenizer_of_each_node(name: str, two: Fleet, tmp_path: Path) -> None:
    """Two that differ are an error: what the model reads and says depends on which one is taken."""
    for node, text in (("n1", "aa"), ("n2", "bbb")):
        (tmp_path / node / STEP / name).write_text(text, encoding="utf-8")
    for report in (locate(two, ["/run"]), verify_nodes(two, "/run")):
        told = [entry for entry in report.findings if entry.code == "collect_conflict"]

        assert Status.FAILED == report.status(), report.findings
        assert [(Severity.ERROR, True)] == [(entry.severity, name in entry.message) for entry in told]


def test_weights_and_a_log(two: Fleet, tmp_path: Path) -> None:
    """Both are told, each as what it is, and the weights decide."""
    (tmp_path / "n2" / STEP / "config.json").write_text("{}", encoding="utf-8")
    for node, text in (("n1", "a"), ("n2", "bb")):
        (tmp_path / node / STEP / "train.log").write_text(text, encoding="utf-8")
    for found in (locate(two, ["/run"]).findings, verify_nodes(two, "/run").findings):
        told = {entry.severity: entry.message for entry in found if entry.code == "collect_conflict"}

        assert {Severity.ERROR, Severity.WARN} == set(told), found
        assert "config.json" in told[Severity.ERROR]
        assert "train.log" in told[Severity.WARN]
    assert "" == locate(two, ["/run"]).command


def test_two_folders_on_one_node(model: Path, tmp_path: Path) -> None:
    """Their files are compared, too: whose sizes differ is named with both."""
    for run in ("first", "second"):
        shutil.copytree(model, tmp_path / run / "checkpoint-7")
    config = tmp_path / "second" / "checkpoint-7" / "config.json"
    config.write_text("{}", encoding="utf-8")
    found = locate(Here(), [str(tmp_path / "first"), str(tmp_path / "second")])
    (conflict,) = [entry for entry in found.findings if entry.code == "collect_conflict"]
    whole = (tmp_path / "first" / "checkpoint-7" / "config.json").stat().st_size

    assert (Status.FAILED, "") == (found.status(), found.command)
    assert f"{whole:,} bytes" in conflict.message
    assert "2 bytes" in conflict.message
    assert "in another folder of" in conflict.message


@pytest.mark.parametrize("name", ["train.log", "manifest.json", "huggingface/train.log"])
@pytest.mark.parametrize(("first", "second"), [("a", "bb"), ("a", "b")])
def test_what_a_manifest_names(first: str, second: str, name: str, two: Fleet, tmp_path: Path) -> None:
    """Where a node has a manifest, no two copies of a file may differ: it would be collected with another's."""
    (tmp_path / "n2" / STEP / "manifest.json").write_text("{}", encoding="utf-8")
    for node, text in (("n1", first), ("n2", second)):
        path = tmp_path / node / STEP / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    done = collect(Here(), [str(tmp_path / node / "run") for node in ("n1", "n2")], tmp_path / "home")
    for findings in (done.findings, verify_nodes(two, "/run").findings):
        told = [entry for entry in findings if entry.code == "collect_conflict"]

        assert [(Severity.ERROR, True)] == [(entry.severity, name in entry.message) for entry in told], findings
    assert not (tmp_path / "home" / "checkpoint-7" / name).exists()


@pytest.mark.parametrize("change", ["", "a log", "another digest"])
def test_manifests_written_on_each_node(change: str, two: Fleet, tmp_path: Path) -> None:
    """They have times of their own, and other lengths: what they say of the files must be the same."""
    for node in ("n1", "n2"):
        folder = tmp_path / node / STEP
        if change == "a log":
            (folder / "train.log").write_text(node, encoding="utf-8")
        assert 0 == main(["ckpt", "manifest", str(folder)])
    path = tmp_path / "n2" / STEP / "manifest.json"
    manifest = load(path)
    files = dict(manifest.files)
    if change == "another digest":
        files["config.json"] = replace(files["config.json"], digest="0" * 64)
    path.write_text(dumps(replace(manifest, files=files, writer=f"{manifest.writer}, later")), encoding="utf-8")
    done = collect(Here(), [str(tmp_path / node / "run") for node in ("n1", "n2")], tmp_path / "home")
    for report in (verify_nodes(two, "/run"), done):
        told = {entry.severity for entry in report.findings if entry.code == "collect_conflict"}

        assert (Status.FAILED if change else Status.OK) == report.status(), report.findings
        assert ({Severity.ERROR} if change else set()) == told
    if not change:
        again = collect(Here(), [str(tmp_path / node / "run") for node in ("n2", "n1")], tmp_path / "home")
        assert (Status.OK, Status.OK) == (again.status(), verify(tmp_path / "home").status()), again.findings


@pytest.mark.parametrize(("first", "second"), [("a", "bb"), ("a", "b")])
def test_to_the_run_itself(first: str, second: str, two: Fleet, tmp_path: Path) -> None:
    """What the run lacks comes; its own log stays as it is, and that of another node is told."""
    for node, text in (("n1", first), ("n2", second)):
        (tmp_path / node / STEP / "train.log").write_text(text, encoding="utf-8")
    weights = next((tmp_path / "n2" / STEP).glob("*.safetensors"))
    content = weights.read_bytes()
    weights.unlink()
    done = collect(Here(), [str(tmp_path / node / "run") for node in ("n1", "n2")], tmp_path / "n2" / "run")
    told = [entry for entry in done.findings if entry.code == "collect_conflict" and "it stays" in entry.message]

    assert Status.OK == done.status(), done.findings
    assert content == weights.read_bytes()
    assert second == (tmp_path / "n2" / STEP / "train.log").read_text(encoding="utf-8")
    assert [(Severity.WARN, True)] == [(entry.severity, "train.log" in entry.message) for entry in told]
    assert not any(move.file.name == "train.log" for one in done.gathered for move in one.moves), "it isn't there"


def test_a_manifest_of_the_run_itself(two: Fleet, tmp_path: Path) -> None:
    """Where what comes has a manifest, another's log at the destination is in its way."""
    for node, text in (("n1", "a"), ("home", "bb")):
        (tmp_path / node / STEP).mkdir(parents=True, exist_ok=True)
        (tmp_path / node / STEP / "train.log").write_text(text, encoding="utf-8")
    (tmp_path / "n1" / STEP / "manifest.json").write_text("{}", encoding="utf-8")
    done = collect(Here(), [str(tmp_path / "n1" / "run")], tmp_path / "home" / "run")

    assert Status.FAILED == done.status(), done.findings
    assert ["train.log"] == [file.name for file in (tmp_path / "home" / STEP).iterdir()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("pytorch_model.bin", True),
        ("optimizer.pt", True),
        ("model.safetensors.index.json", True),
        ("actor/config.json", True),
        ("adapter_config.json", True),
        ("tokenizer.json", True),
        ("merges.txt", True),
        ("qwen.tiktoken", True),
        ("tekken.json", True),
        ("tokenizer.model.v3", True),
        ("chat_template.json", True),
        ("huggingface/special_tokens_map.json", True),
        ("vocab.bpe", True),
        ("spiece.model", True),
        ("source.spm", True),
        ("params.json", True),
        (".metadata", True),
        ("__1.metadata", True),
        ("__0_0.distcp", True),
        ("modeling_own.py", True),
        ("training_args.bin", False),
        ("actor/rng_state_3.pth", False),
        ("train.log", False),
        ("trainer_state.json", False),
        ("README.md", False),
    ],
)
def test_what_a_checkpoint_depends_on(name: str, expected: bool) -> None:
    """Weights, the state of an optimizer, an index, a configuration, a tokenizer and code; not what a node notes."""
    assert expected is decides(name)
