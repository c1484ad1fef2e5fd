"""Runs of other trainers: the newest step decides, also where its weights are elsewhere, or one of its models is lost.

Covers F1 of the failure modes: what lies on the node of rank 0 is missing here, and all that is here is sound.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.findings import Level, Report
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    WriteModel = Callable[..., Path]
    Make = Callable[[Path], object]

pytestmark = pytest.mark.component

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 33,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def judged(run: Path) -> Report:
    return verify(run, level=Level.QUICK)


def told(report: Report) -> list[tuple[str, str, str]]:
    """Return severity, code and relative path of every finding that is no note."""
    return [
        (entry.severity.value, entry.code, entry.path.removeprefix(f"{report.path}/"))
        for entry in report.findings
        if entry.severity is not Severity.INFO
    ]


@pytest.fixture
def orz(make_model: WriteModel, tmp_path: Path) -> Path:
    """A run of Open-Reasoner-Zero: two sound steps of a policy and a critic."""
    for step in (10, 20):
        for role in ("policy", "critic"):
            make_model(tmp_path / "orz" / f"iter{step}" / role, CONFIG)
    return tmp_path / "orz"


@pytest.fixture
def trainer(make_model: WriteModel, tmp_path: Path) -> Path:
    """A run of transformers' Trainer that goes on."""
    for step in (5, 10):
        make_model(tmp_path / "out" / f"checkpoint-{step}", CONFIG)
    return tmp_path / "out"


@pytest.fixture
def verl(make_model: WriteModel, tmp_path: Path) -> Path:
    """A run of verl."""
    for step in (7, 14):
        for role in ("actor", "critic"):
            make_model(tmp_path / "verl" / f"global_step_{step}" / role, CONFIG)
    (tmp_path / "verl" / "latest_checkpointed_iteration.txt").write_text("14")
    return tmp_path / "verl"


def write(*names: str) -> Make:
    """Return what writes files that hold an empty JSON object, and folders where a name ends in `/`."""

    def make(folder: Path) -> None:
        for name in names:
            path = folder / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_text("{}", encoding="utf-8")

    return make


@pytest.mark.parametrize(
    ("run", "newest", "good", "make"),
    [
        ("orz", "iter30", "iter20", write("iter30_generation_results.json")),
        ("orz", "iter40", "iter20", write("policy/", "critic/")),
        ("orz", "iter40", "iter20", write("policy/config.json", "../iter30/iter30_generation_results.json")),
        ("orz", "iter100", "iter20", write()),
        ("trainer", "checkpoint-15", "checkpoint-10", write("trainer_state.json")),
        ("trainer", "checkpoint-15", "checkpoint-10", write("trainer_state.json", "training_args.bin")),
        ("verl", "global_step_21", "global_step_14", write("actor/huggingface/config.json")),
        ("verl", "global_step_21", "global_step_14", write("a.json", "actor/huggingface/chat_template.jinja")),
    ],
)
def test_newest_step_without_weights(
    run: str, newest: str, good: str, make: Make, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """A save goes on, or wrote them elsewhere: never a pass; where to look is said, and which step is good."""
    path: Path = request.getfixturevalue(run)
    assert Status.OK is judged(path).status()
    (path / newest).mkdir()
    make(path / newest)
    report = judged(path)

    errors = [entry for entry in told(report) if entry[0] == "error"]
    assert ("error", "nothing_recognised", newest) in errors
    assert {newest} == {name for _, _, name in errors}
    assert str(path / good) == report.newest_good
    assert main(["ckpt", "verify", str(path), "--level", "quick"]) in {1, 3}
    said = " ".join(capsys.readouterr().out.split())
    assert "save of its weights may be going on, or was cut off" in said
    assert "weights were written elsewhere" not in said
    assert said.index("verify again when it is done; else ") < said.index(f"orz ckpt locate {path / newest}")
    assert f"the newest good checkpoint is {path / good}" in said


@pytest.mark.parametrize(
    "name", ["logs", "tensorboard", "eval-3", "step_99", "checkpoint-99", "iter30_eval", "tmp_iter30", "iter_0000030"]
)
def test_a_folder_that_is_no_step_of_this_run(name: str, orz: Path) -> None:
    """What is not named as the steps that hold weights are is nothing that failed."""
    write("a.json")(orz / name)
    report = judged(orz)

    assert (Status.OK, [], 2) == (report.status(), told(report), len(report.parts))


def test_an_older_step_without_weights(verl: Path) -> None:
    """A trainer that keeps the last weights leaves a folder of each step before: there is nothing to say."""
    for step in (1, 8):
        write("data.pt")(verl / f"global_step_{step}")
    report = judged(verl)

    assert (Status.OK, []) == (report.status(), told(report))


def test_steps_without_any_weights(tmp_path: Path) -> None:
    """Where no step has weights it is no run of any kind: that nothing is known here is said once."""
    for step in (10, 20):
        write("x.json")(tmp_path / "orz" / f"iter{step}")
    report = judged(tmp_path / "orz")

    assert (Status.INCONCLUSIVE, ["nothing_recognised"]) == (report.status(), [code for _, code, _ in told(report)])


@pytest.mark.parametrize("left", [[], ["config.json"]])
def test_a_policy_without_weights(left: list[str], orz: Path) -> None:
    """The critic beside it is no answer for both, in a run and in a step alone."""
    policy = orz / "iter20" / "policy"
    for file in policy.iterdir():
        if file.name not in left:
            file.unlink()

    for path in (orz, orz / "iter20"):
        report = judged(path)
        code = "no_weights" if left else "nothing_recognised"
        assert [(code, str(policy))] == [(entry.code, entry.path) for entry in report.findings if is_error(entry)]
    assert str(orz / "iter10") == judged(orz).newest_good


def is_error(entry: Any) -> bool:
    return entry.severity is Severity.ERROR


@pytest.mark.parametrize(("run", "step", "role"), [("orz", "iter20", "policy"), ("verl", "global_step_14", "actor")])
def test_a_lost_policy(run: str, step: str, role: str, request: pytest.FixtureRequest) -> None:
    """The newest step lacks the model that is trained, which the one before has: it is not good."""
    path: Path = request.getfixturevalue(run)
    shutil.rmtree(path / step / role)
    report = judged(path)

    assert (Status.FAILED, [("error", "no_weights", step)]) == (report.status(), told(report))
    (found,) = (entry for entry in report.findings if is_error(entry))
    assert f"the {role} is not here, which " in found.message
    assert found.message.endswith("; a save of its weights may be going on, or was cut off")
    assert found.remedy.startswith("verify again when it is done; else orz ckpt locate ")
    assert report.newest_good == report.parts[0].path


def test_a_lost_policy_of_an_older_step(orz: Path, make_model: WriteModel) -> None:
    """One before has it: a warning, and that step is not named as a good one."""
    make_model(orz / "iter5" / "policy", CONFIG)
    shutil.rmtree(orz / "iter10" / "policy")
    assert (Status.OK, [("warn", "no_weights", "iter10")]) == (judged(orz).status(), told(judged(orz)))
    shutil.rmtree(orz / "iter20" / "policy")

    assert str(orz / "iter5") == judged(orz).newest_good
    older, newest = (entry for entry in judged(orz).findings if entry.code == "no_weights")
    assert ("going on" in older.message, "going on" in newest.message) == (False, True)


@pytest.mark.parametrize(("role", "other"), [("actor", "critic"), ("critic", "actor")])
def test_fewer_of_one_role_are_kept(role: str, other: str, verl: Path, make_model: WriteModel) -> None:
    """With `max_actor_ckpt_to_keep` verl keeps fewer actors than critics: nothing is lost."""
    make_model(verl / "global_step_21" / other, CONFIG)
    shutil.move(verl / "global_step_14" / role, verl / "global_step_21" / role)
    shutil.rmtree(verl / "global_step_7" / role)
    (verl / "latest_checkpointed_iteration.txt").write_text("21")
    report = judged(verl)

    assert (Status.OK, [], str(verl / "global_step_21")) == (report.status(), told(report), report.newest_good)
    assert [Status.OK] * 3 == [part.status() for part in report.parts]


def test_a_critic_alone_is_no_good_step(verl: Path) -> None:
    """Where the newest step is broken, one from which the actor was deleted is none to take."""
    shutil.rmtree(verl / "global_step_7" / "actor")
    for folder in ("actor", "critic"):
        (verl / "global_step_14" / folder / "model.safetensors").write_bytes(b"")
    report = judged(verl)

    assert (Status.FAILED, "") == (report.status(), report.newest_good)


def test_a_lost_critic(orz: Path) -> None:
    """Open-Reasoner-Zero saves none at the end: a warning; and of an older step nothing is said."""
    shutil.rmtree(orz / "iter20" / "critic")
    assert (Status.OK, [("warn", "role_missing", "iter20")]) == (judged(orz).status(), told(judged(orz)))
    shutil.rmtree(orz / "iter10" / "critic")
    assert [] == told(judged(orz))
    shutil.copytree(orz / "iter10" / "policy", orz / "iter20" / "critic")

    assert [] == told(judged(orz))


def test_latest_names_an_older_step(verl: Path) -> None:
    """A save that was cut off has a folder; the file beside it names the one before."""
    write("actor/huggingface/config.json")(verl / "global_step_21")
    report = judged(verl)

    assert {"nothing_recognised", "latest_behind"} == {code for _, code, _ in told(report)}
    (found,) = (entry for entry in report.findings if entry.code == "latest_behind")
    assert found.message.endswith(": a later save is going on, or was cut off")


@pytest.mark.parametrize(("here", "lacks"), [(True, "in which there are no weights"), (False, "which is not here")])
def test_latest_names_a_step_without_weights(verl: Path, lacks: str, *, here: bool) -> None:
    """Whether its folder is here or not is said."""
    if here:
        write("data.pt")(verl / "global_step_8")
    (verl / "latest_checkpointed_iteration.txt").write_text("8")
    (found,) = (entry for entry in judged(verl).findings if entry.code == "tag_missing")

    assert f"it names step 8, {lacks}; steps here: 'global_step_7', 'global_step_14'" == found.message


def test_json_names_the_newest_good_step(orz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script reads the status of each step, and which one to take."""
    write("x.json")(orz / "iter30")
    assert 3 == main(["ckpt", "verify", str(orz), "--json"])
    document = json.loads(capsys.readouterr().out)

    assert ["ok", "ok", "inconclusive"] == [part["status"] for part in document["parts"]]
    assert ("run", str(orz / "iter20")) == (document["kind"], document["newest_good"])
