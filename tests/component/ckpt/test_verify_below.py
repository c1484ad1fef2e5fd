"""A folder that holds a model, or what a trainer saves beside one, and checkpoints below: all of them are judged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.copy.foreign import check_foreign
from orz_ckpt.copy.plan import Unit
from orz_ckpt.copy.run import copy
from orz_ckpt.copy.tree import LocalTree
from orz_ckpt.findings import Level, Report
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.component

WEIGHTS = "model-00001-of-00002.safetensors"


def codes(report: Report) -> set[tuple[str, str]]:
    """Return code and relative path of every finding that is no note."""
    return {
        (entry.code, os.path.relpath(entry.path, report.path))
        for entry in report.findings
        if entry.severity is not Severity.INFO
    }


def names(report: Report) -> list[str]:
    return [os.path.relpath(part.path, report.path) for part in report.parts]


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 100)


@pytest.fixture
def out(model: Path) -> Path:
    """What transformers' Trainer leaves behind: the model, and the steps on the way to it."""
    for step in (5, 10):
        target = model / f"checkpoint-{step}"
        shutil.copytree(model, target, ignore=lambda *_: ["checkpoint-5", "checkpoint-10"])
        torch.save({"state": {0: {"exp_avg": torch.zeros(3)}}}, target / "optimizer.pt")
    return model


def test_a_model_and_the_steps_to_it(out: Path) -> None:
    """All are looked at, and counted."""
    report = verify(out)

    assert (Status.OK, set()) == (report.status(), codes(report))
    assert [".", "checkpoint-5", "checkpoint-10"] == names(report)
    assert 3 * len(open_source(out).tensors) < report.tensors  # and those of two optimizers
    assert {out / WEIGHTS, out / "checkpoint-5" / WEIGHTS} < {out / name for name in report.checked}


@pytest.mark.parametrize(
    ("broken", "status", "good"),
    [
        (".", Status.FAILED, "checkpoint-10"),
        ("checkpoint-5", Status.OK, "checkpoint-10"),
        ("checkpoint-10", Status.FAILED, "checkpoint-5"),
    ],
)
def test_one_of_them_is_broken(broken: str, status: Status, good: str, out: Path) -> None:
    """The model and the newest step have to be good; an older step warns."""
    cut(out / broken / WEIGHTS)
    report = verify(out)

    assert (status, {("header_invalid", os.path.normpath(f"{broken}/{WEIGHTS}"))}) == (report.status(), codes(report))
    assert str(out / good) == report.newest_good


def test_a_newest_step_without_weights(out: Path) -> None:
    """As without a model beside the steps."""
    (out / "checkpoint-15").mkdir()
    (out / "checkpoint-15" / "trainer_state.json").write_text("{}")
    report = verify(out)

    assert (Status.INCONCLUSIVE, {("nothing_recognised", "checkpoint-15")}) == (report.status(), codes(report))


def test_a_model_beside_steps(out: Path) -> None:
    """A folder with an export of one is no step, and judged all the same."""
    for file in out.iterdir():
        if file.is_file():
            file.unlink()
    shutil.copytree(out / "checkpoint-5", out / "export")
    cut(out / "export" / WEIGHTS)
    report = verify(out)

    assert ["checkpoint-5", "checkpoint-10", "export"] == names(report)
    assert (Status.FAILED, {("header_invalid", f"export/{WEIGHTS}")}) == (report.status(), codes(report))


@pytest.mark.parametrize("config", ["whole", "cut off", "of no model", "none"])
def test_one_of_several_models_lost_its_weights(config: str, model: Path, tmp_path: Path) -> None:
    """Its configuration says that it was one: a warning names it, and by itself it fails. Logs are no model."""
    base = tmp_path / "exports"
    for name in ("good", "lost"):
        shutil.copytree(model, base / name)
    for file in (base / "lost").glob("*.safetensors*"):
        file.unlink()
    (base / "logs").mkdir()
    (base / "logs" / "iter100_generation_results.json").write_text("{}")
    text = (model / "config.json").read_text()
    written = {"whole": text, "cut off": text[:20], "of no model": '{"lr": 1e-6}'}
    (base / "lost" / "config.json").unlink()
    if config in written:
        (base / "lost" / "config.json").write_text(written[config])

    report = verify(base)
    assert (Status.OK, ["good"]) == (report.status(), names(report))
    warned = [(entry.code, Path(entry.path).name) for entry in report.findings if entry.severity is Severity.WARN]
    if config in {"whole", "cut off"}:
        assert warned == [("no_weights", "lost")]
        assert Status.FAILED is report.status(Severity.WARN)
        assert Status.FAILED is verify(base / "lost").status()
    else:
        assert warned == []


@pytest.mark.parametrize(
    "beside", ["huggingface/config.json", "tokenizer/config.json", "onnx/model.onnx", "odd/config.json/x", "gone/a.txt"]
)
def test_a_configuration_beside_a_model_that_lost_nothing(beside: str, model: Path, tmp_path: Path) -> None:
    """Of verl's Megatron, of a tokenizer, of weights for other programs, and what nobody can read: no word."""
    base = tmp_path / "exports"
    shutil.copytree(model, base / "good")
    folder = base / beside.partition("/")[0]
    (base / beside).parent.mkdir(parents=True)
    (base / beside).write_bytes(b"")
    if not (folder / "config.json").is_dir():
        shutil.copy(model / "config.json", folder / "config.json")
    if folder.name == "gone":
        (folder / "config.json").unlink()
    report = verify(base)
    assert (Status.OK, ["good"]) == (report.status(Severity.WARN), names(report))


@pytest.mark.parametrize("between", ["checkpoints", "run1"])
@pytest.mark.parametrize("beside", ["a model", "a step", "nothing"])
def test_steps_in_a_folder_of_their_own(between: str, beside: str, out: Path) -> None:
    """Such as accelerate's `checkpoints/checkpoint_N`: judged as a run, whatever lies beside them."""
    (out / between).mkdir()
    for number, step in enumerate(("checkpoint-5", "checkpoint-10")):
        shutil.copytree(out / step, out / between / f"checkpoint_{number}")
    for entry in out.iterdir():
        if beside != "a model" and entry.is_file():
            entry.unlink()
    if beside != "a step":
        shutil.rmtree(out / "checkpoint-5")
        shutil.rmtree(out / "checkpoint-10")
    seen = {"a model": ["."], "a step": ["checkpoint-5", "checkpoint-10"], "nothing": []}[beside]
    assert (Status.OK, set(), [*seen, between]) == (verify(out).status(), codes(verify(out)), names(verify(out)))

    cut(out / between / "checkpoint_1" / WEIGHTS)
    report = verify(out)
    broken = f"{between}/checkpoint_1/{WEIGHTS}"
    assert (Status.FAILED, {("header_invalid", broken)}) == (report.status(), codes(report))
    assert str(out / between / "checkpoint_0") == report.parts[-1].newest_good


def test_loose_weights_beside_a_checkpoint(out: Path, tmp_path: Path) -> None:
    """Whatever the folder is called."""
    save_file({"w": np.ones(4, "<f4")}, tmp_path / "weights.safetensors")
    cut(out.rename(tmp_path / "checkpoint") / WEIGHTS)
    report = verify(tmp_path, level=Level.QUICK)

    assert ("header_invalid", f"checkpoint/{WEIGHTS}") in codes(report)


def test_a_configuration_beside_steps(out: Path) -> None:
    """While a training goes on there may be no more than that beside its steps: it is no model that lacks weights."""
    for file in out.iterdir():
        if file.is_file() and file.name != "config.json":
            file.unlink()
    report = verify(out)

    assert (Status.OK, set(), ["checkpoint-5", "checkpoint-10"]) == (report.status(), codes(report), names(report))


def test_links_are_other_names(out: Path) -> None:
    """A link to a step is no step of its own, and one that leads in a circle is not followed."""
    (out / "latest").symlink_to("checkpoint-10")
    (out / "checkpoint-20").symlink_to(".")
    (out / "checkpoint-10" / "up").symlink_to("..")

    assert [".", "checkpoint-5", "checkpoint-10"] == names(verify(out))


def test_links_back(out: Path) -> None:
    """Named as steps, to the run, or around through another: none is followed for ever."""
    for step in (20, 21):
        (out / f"checkpoint-{step}").symlink_to(".")
        (out / "checkpoint-10" / f"checkpoint-{step}").symlink_to(out)
    (out / "checkpoint-5" / "checkpoint-10").symlink_to(out / "checkpoint-10")
    (out / "checkpoint-10" / "checkpoint-5").symlink_to(out / "checkpoint-5")
    report = verify(out)

    assert [".", "checkpoint-5", "checkpoint-10"] == names(report)
    assert not any(part.parts for part in report.parts)


def test_folders_that_may_not_be_looked_into(
    out: Path, public: Callable[[Path], Path], limited: Callable[[], AbstractContextManager[None]]
) -> None:
    """lost+found beside a model says nothing of it, another folder is named; a step that may not be read is no pass."""
    path = public(out)
    (path / "lost+found").mkdir(mode=0o700)
    with limited():
        before = verify(path, level=Level.QUICK)
        assert (Status.OK, set()) == (before.status(), codes(before))
    (path / "critic").mkdir(mode=0o700)
    with limited():
        closed = verify(path, level=Level.QUICK)
        assert (Status.OK, {("unreadable", "critic")}) == (closed.status(), codes(closed))
    (path / "checkpoint-10").chmod(0o700)
    with limited():
        assert Status.INCONCLUSIVE is verify(path, level=Level.QUICK).status()


@pytest.mark.parametrize("broken", [".", "checkpoint-10"])
def test_a_link_to_itself(broken: str, out: Path) -> None:
    """It hides no damage: of the model beside it, or of a step."""
    (out / "loop").symlink_to("loop")
    cut(out / broken / WEIGHTS)
    report = verify(out)

    told = {("unreadable", "loop"), ("header_invalid", os.path.normpath(f"{broken}/{WEIGHTS}"))}
    assert (Status.FAILED, told) == (report.status(), codes(report))
    assert [".", "checkpoint-5", "checkpoint-10"] == names(report)


@pytest.mark.parametrize(
    ("target", "code"), [("loop", "unreadable"), ("nothing", "file_missing"), ("/not/mounted", "file_missing")]
)
def test_a_link_beside_steps(target: str, code: str, out: Path) -> None:
    """It belongs to no checkpoint: that it leads nowhere is a warning."""
    for file in out.iterdir():
        if file.is_file():
            file.unlink()
    (out / "loop").symlink_to(target)
    report = verify(out)

    assert (Status.OK, {(code, "loop")}) == (report.status(), codes(report))
    assert ["checkpoint-5", "checkpoint-10"] == names(report)


@pytest.mark.parametrize(("link", "told"), [(False, {"."}), (True, {"data", "away"})])
def test_what_may_not_be_looked_into_hides_no_damage(
    out: Path,
    public: Callable[[Path], Path],
    limited: Callable[[], AbstractContextManager[None]],
    told: set[str],
    *,
    link: bool,
) -> None:
    """The model in the folder is judged, whatever lies below it; what may not be read is told, too."""
    path = public(out)
    cut(path / WEIGHTS)
    (path / "away").mkdir(mode=0o700)
    if link:
        (path / "data").symlink_to("away/data")
    else:
        (path / "checkpoint-10").chmod(0o700)
    with limited():
        report = verify(path, level=Level.QUICK)

    expected = {("header_invalid", WEIGHTS), *(("unreadable", name) for name in told)}
    assert (Status.FAILED, expected) == (report.status(), codes(report))


def test_the_model_is_compared_with_the_base(out: Path, tmp_path: Path) -> None:
    """Not a step on the way to it."""
    base = shutil.copytree(out, tmp_path / "base", ignore=lambda *_: ["checkpoint-5", "checkpoint-10"])
    save_file({"other": np.ones(3, "<f4")}, out / "checkpoint-10" / "model.safetensors")

    assert ("unchanged", ".") in codes(verify(out, against=base))


@pytest.fixture
def verl(model: Path, tmp_path: Path) -> Path:
    """A step as verl writes it: models side by side, and the state of its data loader."""
    step = tmp_path / "verl" / "global_step_7"
    for role in ("actor", "critic"):
        shutil.copytree(model, step / role)
    torch.save({"_sampler": {"seed": 1}, "rng": torch.zeros(4, dtype=torch.uint8)}, step / "data.pt")
    return step


@pytest.mark.parametrize("state", [{"seed": 1}, {"rng": torch.zeros(4, dtype=torch.uint8)}])
def test_models_beside_a_data_loader(state: dict[str, Any], verl: Path) -> None:
    """`data.pt` is no model: the actor is judged, in the step and in the run."""
    torch.save(state, verl / "data.pt")
    for path in (verl, verl.parent):
        assert (Status.OK, set()) == (verify(path).status(), codes(verify(path)))
    cut(verl / "actor" / WEIGHTS)
    for path in (verl, verl.parent):
        report = verify(path)
        assert (Status.FAILED, {"header_invalid"}) == (report.status(), {code for code, _ in codes(report)})


def test_a_data_loader_that_would_run_code(verl: Path) -> None:
    """What lies beside the models is looked at, too."""
    (verl / "data.pt").write_bytes(b"\x80\x04cos\nsystem\nX\x0b\x00\x00\x00touch alarm\x85R.")

    assert (Status.REFUSED, {("pickle_calls", "data.pt")}) == (verify(verl).status(), codes(verify(verl)))


@pytest.mark.parametrize("name", ["optimizer.pt", "data.pt", "rng_state_0.pth"])
def test_what_trainers_save_beside_weights_alone(name: str, tmp_path: Path) -> None:
    """Its tensors are no weights: it is never a pass."""
    torch.save({"state": torch.ones(3)}, tmp_path / name)
    (tmp_path / "trainer_state.json").write_text("{}")
    report = verify(tmp_path)

    assert (Status.INCONCLUSIVE, {("nothing_recognised", ".")}) == (report.status(), codes(report))
    assert "orz ckpt locate" in report.findings[0].remedy


def test_a_file_named_almost_as_a_data_loader(tmp_path: Path) -> None:
    """Only `data.pt` itself is verl's: others whose names begin so may hold a model."""
    torch.save({"w": torch.ones(3)}, tmp_path / "data.pth")

    for path in (tmp_path, tmp_path / "data.pth"):
        report = verify(path)
        assert (Status.OK, set(), 1) == (report.status(), codes(report) - {("shapes_not_checked", ".")}, report.tensors)


@pytest.mark.filterwarnings("ignore")  # torch's own
def test_shards_of_an_optimizer(tmp_path: Path) -> None:
    """The trainer writes them into a folder beside that of the model: sound is sound, and alone it is no checkpoint."""
    save: Callable[..., object] = pytest.importorskip("torch.distributed.checkpoint").save
    step = tmp_path / "run" / "checkpoint-10"
    moments = {"w": {"exp_avg": torch.ones(3)}}
    save({"model": {"w": torch.ones(3)}}, checkpoint_id=step / "pytorch_model_fsdp_0", no_dist=True)
    save({"optimizer": {"state": moments}}, checkpoint_id=step / "optimizer_0", no_dist=True)
    torch.save({"rng": torch.ones(3)}, step / "rng_state_0.pth")

    for path in (step, step.parent):
        assert (Status.OK, set()) == (verify(path).status(), codes(verify(path)))
    assert ["w"] == list(open_source(step).tensors)
    os.truncate(step / "optimizer_0" / "__0_0.distcp", 10)
    assert Status.FAILED is verify(step).status()
    shutil.rmtree(step / "pytorch_model_fsdp_0")
    assert Status.INCONCLUSIVE is verify(step).status()


def test_copy_judges_what_verify_does(out: Path) -> None:
    """A broken step below a model is not copied with it."""
    unit = Unit(rel="", files={}, manifest=None)
    assert [] == [entry for entry in check_foreign(LocalTree(out), unit) if entry.severity is Severity.ERROR]
    cut(out / "checkpoint-10" / WEIGHTS)

    assert {"header_invalid"} == {
        entry.code for entry in check_foreign(LocalTree(out), unit) if entry.severity is Severity.ERROR
    }


@pytest.mark.parametrize("config", [False, True])
def test_copy_of_a_run_that_goes_on(out: Path, tmp_path: Path, *, config: bool) -> None:
    """That its newest step holds no weights is a warning, and all that is there comes."""
    (out / "checkpoint-15").mkdir()
    if config:
        shutil.copy(out / "config.json", out / "checkpoint-15")
    files = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    done = copy(str(out), str(tmp_path / "there"))

    told = [entry for entry in done.findings if entry.severity is not Severity.INFO]
    assert (Status.OK, [(Severity.WARN, str(out / "checkpoint-15"))]) == (
        done.status(),
        [(entry.severity, entry.path) for entry in told],
    )
    assert files == {path.relative_to(tmp_path / "there") for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert config or "it is empty; a save of its weights may be going on, or was cut off" == told[0].message
