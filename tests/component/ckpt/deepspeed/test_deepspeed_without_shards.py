"""A folder that DeepSpeed saved into, and in which no shard is left: it is told as such, and where to look.

Covers F1 and F11 of the failure modes: shards on other nodes, and a `latest` that names what is not here.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.findings import Level, Report
from orz_ckpt.sources import detect, holds_weights, lost_beside, roles_in
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component

TAG = "global_step100"


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def weights(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}


def left_over(path: Path, *, latest: str = TAG, script: bool = True) -> Path:
    """Make what is left of a save: what rank 0 writes beside the tags."""
    path.mkdir(parents=True)
    (path / "latest").write_text(latest, encoding="utf-8")
    if script:
        (path / "zero_to_fp32.py").write_text("# of DeepSpeed\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("script", [True, False], ids=["zero", "no_zero"])
@pytest.mark.parametrize("folder", [True, False], ids=["empty", "gone"])
@pytest.mark.parametrize("command", ["verify", "inspect", "merge", "manifest"])
def test_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, command: str, folder: bool, script: bool
) -> None:
    """The tag that `latest` names is missing, whether or not its folder is here; the command looks for it."""
    path = left_over(tmp_path / "ckpt", script=script)
    if folder:
        (path / TAG).mkdir()
    before = sorted(tmp_path.rglob("*"))

    assert 1 == main(["ckpt", command, str(path), *([str(tmp_path / "out")] if command == "merge" else [])])
    said = " ".join(capsys.readouterr().out.split())
    assert "tag_missing" in said
    assert f"`latest` names '{TAG}', {'in which there are no shards' if folder else 'which is not here'}" in said
    assert f"orz ckpt locate {path} --ray" in said
    assert before == sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize("level", list(Level))
def test_all_shards_of_a_real_save_are_gone(small: dict[str, Any], tmp_path: Path, level: Level) -> None:
    """What the engine itself leaves beside its shards is recognised, and nothing else is said of it."""
    path = shutil.copytree(
        small["zero2"].checkpoint, tmp_path / "ckpt", ignore=shutil.ignore_patterns("*.pt", "mixed", "universal")
    )
    report = verify(path, level=level)

    assert (Status.FAILED, {"tag_missing"}) == (report.status(), codes(report))
    assert ("deepspeed", False) == (detect(path), holds_weights(path))


def test_what_lies_beside_weights(tmp_path: Path, model: Path) -> None:
    """Configuration, scheduler and random states of transformers' Trainer are no weights."""
    torch = pytest.importorskip("torch")  # orz-ckpt works without it; it writes what is read here
    path = left_over(tmp_path / "checkpoint-100")
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(model / name, path / name)
    for name in ("scheduler.pt", "rng_state_0.pth"):
        torch.save({"a": 1}, path / name)

    assert (Status.FAILED, {"tag_missing"}) == (verify(path).status(), codes(verify(path)))


def test_one_of_two_models(small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An actor without shards beside a sound critic fails, and no command takes the critic in its place."""
    step = tmp_path / "ckpt"
    left_over(step / "_actor")
    shutil.copytree(small["zero2"].checkpoint, step / "_critic")
    report = verify(step)

    assert (Status.FAILED, {"tag_missing"}) == (report.status(), codes(report))
    assert {str(step / "_actor" / "latest")} == {
        entry.path for entry in report.findings if entry.severity is Severity.ERROR
    }
    assert 0 != main(["ckpt", "merge", str(step), str(tmp_path / "out")])
    assert "holds 2 models: _actor, _critic" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lost", "held", "latest"),
    [
        ("_actor", "global_step20_hf", "global_step20"),
        ("_actor", "policy", TAG),
        ("_actor", "preferred", TAG),
        ("_critic", "_actor", TAG),
        ("global_step10", "global_step20", "global_step10"),
    ],
)
def test_the_only_model_with_weights(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, lost: str, held: str, latest: str
) -> None:
    """Beside a folder without shards `merge` and `inspect` take the model that is there, and warn of the other."""
    both, alone = tmp_path / "ckpt", tmp_path / "alone"
    left_over(both / lost, latest=latest)
    shutil.copytree(model, both / held)
    shutil.copytree(model, alone)
    for command in ("inspect", "merge"):
        out = [str(tmp_path / "out")] if command == "merge" else []
        assert 0 == main(["ckpt", command, str(both), *out])
        said = " ".join(capsys.readouterr().out.split())
        assert "warn no_weights" in said
        assert f"orz ckpt locate {both / lost} --ray" in said
        assert "tag_missing" not in said

    assert 0 == main(["ckpt", "merge", str(alone), str(tmp_path / "expected")])
    assert weights(tmp_path / "expected") == weights(tmp_path / "out")
    assert [held] == list(roles_in(both))


@pytest.mark.parametrize(
    ("lost", "held", "head", "latest"),
    [
        ("_actor", "critic", False, TAG),
        ("_actor", "global_step20_critic_hf", False, "global_step20"),
        ("_actor", "hf_model", True, TAG),
        ("global_step20", "global_step10", False, "global_step20"),
        ("_actor", "global_step10_hf", False, "global_step20"),
        ("_actor", "global_step10_hf", False, "best"),
        ("_actor", "global_step10_hf", False, "a/b"),
        ("_actor", "ref", False, TAG),
        ("_actor", "Reward_Model", False, TAG),
        ("_actor", "rm2", False, TAG),
    ],
)
def test_the_only_model_is_another(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    lost: str,
    held: str,
    head: bool,
    latest: str,
) -> None:
    """A critic, by its name or its head, a reference or a reward model is not taken for an actor: `merge` asks.

    Nor is an older step for the newest, or for what `latest` names where its weights are lost, or perhaps an older one.
    """
    path = tmp_path / "ckpt"
    left_over(path / lost, latest=latest)
    shutil.copytree(model, path / held)
    if head:
        torch = pytest.importorskip("torch")  # orz-ckpt works without it; it writes what is read here
        save = pytest.importorskip("safetensors.torch").save_file  # needs torch, too
        shutil.rmtree(path / held)
        (path / held).mkdir()
        save({"model.norm.weight": torch.ones(4), "v_head.weight": torch.ones(1, 4)}, path / held / "model.safetensors")

    assert 2 == main(["ckpt", "merge", str(path), str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().err.split())
    assert f"holds 2 models: {', '.join(sorted((lost, held)))}; no weights are left in {lost}" in said
    assert f"give one: {path / held}; for what is lost, search for them: orz ckpt locate {path} --ray" in said
    assert not (tmp_path / "out").exists()
    assert 1 == main(["ckpt", "inspect", str(path)])
    assert ("is not the name of a folder" if latest == "a/b" else "tag_missing") in "".join(capsys.readouterr())


def test_the_only_model_is_of_an_earlier_save(small: dict[str, Any], tmp_path: Path) -> None:
    """An actor whose own `latest` names an older step than that of the critic that is lost is not taken."""
    step = tmp_path / "ckpt"
    shutil.copytree(small["zero2"].checkpoint, step / "_actor")
    own = (step / "_actor" / "latest").read_text(encoding="utf-8").strip()
    left_over(step / "_critic", latest=own)
    assert {"_critic"} == set(lost_beside(step))
    (step / "_critic" / "latest").write_text("global_step999999", encoding="utf-8")
    assert {} == lost_beside(step)


def test_the_only_model_is_a_reward_model(model: Path, tmp_path: Path) -> None:
    """The class that its configuration names says so, whatever its folder is called."""
    left_over(tmp_path / "ckpt" / "_actor")
    shutil.copytree(model, tmp_path / "ckpt" / "hf")
    assert {"_actor"} == set(lost_beside(tmp_path / "ckpt"))
    file = tmp_path / "ckpt" / "hf" / "config.json"
    config = json.loads(file.read_bytes()) | {"architectures": ["LlamaForSequenceClassification"]}
    file.write_text(json.dumps(config), encoding="utf-8")
    assert {} == lost_beside(tmp_path / "ckpt")


@pytest.mark.parametrize(
    ("held", "lost", "named"),
    [
        (("actor", "critic"), "reward", "actor"),
        (("actor",), "critic", "actor"),
        (("critic",), "actor", "critic"),
        (("critic", "hf"), "actor", "critic"),
    ],
)
def test_the_model_that_is_named_for_a_run(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, held: tuple[str, ...], lost: str, named: str
) -> None:
    """What `merge` of a run says to give is taken; where it is not the policy, what is lost beside it is said, too."""
    run = tmp_path / "run"
    for role in held:
        shutil.copytree(model, run / "global_step_10" / role)
    left_over(run / "global_step_10" / lost, latest="global_step_10")

    assert 2 == main(["ckpt", "merge", str(run), str(tmp_path / "out")])
    said = " ".join(capsys.readouterr().err.split())
    folder = run / "global_step_10" / named
    assert str(folder) == said.split("give one of its models: ")[1].split()[0].rstrip(";")
    assert (named != "actor") == (f"no weights are left in {lost}: search for them: orz ckpt locate" in said)
    assert 0 == main(["ckpt", "merge", str(folder), str(tmp_path / "out")])


@pytest.mark.parametrize("text", ["", "a/b", "\x1b[2J"])
def test_latest_that_names_nothing(tmp_path: Path, text: str) -> None:
    """Beside DeepSpeed's script a `latest` that was cut off, or is no name, fails."""
    assert (Status.FAILED, {"shard_torn"}) == (
        verify(left_over(tmp_path / "ckpt", latest=text)).status(),
        codes(verify(tmp_path / "ckpt")),
    )


def test_latest_that_leads_out(tmp_path: Path) -> None:
    """DeepSpeed would load from there: refused, as where shards lie beside it."""
    report = verify(left_over(tmp_path / "ckpt", latest="../elsewhere"))

    assert (Status.REFUSED, {"path_escapes"}) == (report.status(), codes(report))


def test_latest_of_another_program(model: Path, tmp_path: Path) -> None:
    """A file of that name says nothing where a model is, here or below, nor where nothing of DeepSpeed's is."""
    (model / "latest").write_text(TAG, encoding="utf-8")
    (model / "zero_to_fp32.py").touch()
    assert ("hf", Status.OK) == (detect(model), verify(model).status())
    run = left_over(tmp_path / "run")
    shutil.copytree(model, run / TAG, ignore=shutil.ignore_patterns("latest", "zero_to_fp32.py"))
    assert (None, Status.OK) == (detect(run), verify(run).status())

    other = left_over(tmp_path / "other", latest="v1.2", script=False)
    assert {"nothing_recognised"} == codes(verify(other))
