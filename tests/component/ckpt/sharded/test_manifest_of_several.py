"""A manifest over several models of shards, side by side or in the steps of a run: each is judged by its own files.

What is wrong with one is found with the manifest as without it, whatever the others hold.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.findings import Level, Report
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch = pytest.importorskip("torch")  # orz-ckpt works without it; it writes what is read here
pytest.importorskip("torch.distributed.tensor")

pytestmark = pytest.mark.component

RANK = "model_world_size_3_rank_1.pt"


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def found(report: Report) -> list[tuple[str, str, str, Severity]]:
    """Return all that is found, in order of places; without what is said of all that was read."""
    told = {(entry.path, entry.code, entry.message, entry.severity) for entry in report.findings}
    return sorted(entry for entry in told if entry[1] not in {"no_manifest", "one_copy", "sampled"})


def zero(model: Path, names: str = ".*") -> None:
    """Write zeros into all that each rank has of the weights with such names."""
    for file in model.glob("model_*.pt"):
        state = torch.load(file, weights_only=False)
        for name, value in state.items():
            if re.fullmatch(names, name):
                local = value.to_local() if hasattr(value, "to_local") else value
                with torch.no_grad():
                    local.zero_()
        torch.save(state, file)


def describe(path: Path) -> None:
    assert 0 == main(["ckpt", "manifest", str(path)])


@pytest.fixture
def step(broken: Callable[[str], Path]) -> Path:
    """A step with an actor, and a critic of the same names whose head has another one."""
    actor = broken("fsdp2")
    critic = shutil.copytree(actor, actor.with_name("critic"))
    for file in critic.glob("model_*.pt"):
        state = torch.load(file, weights_only=False)
        state["score.weight"] = state.pop("wide.weight")
        torch.save(state, file)
    return actor.parent


@pytest.mark.parametrize("level", list(Level))
def test_sound(step: Path, level: Level) -> None:
    """Under a manifest of the step, or of the run, all is found that is found without it, and nothing else."""
    run = step.parent
    bare = {path: found(verify(path, level=level)) for path in (run, step, step / "actor", step / "critic")}
    describe(step)
    assert {path: bare[path] for path in bare if path != run} == {
        path: found(verify(path, level=level)) for path in bare if path != run
    }
    (step / "manifest.json").unlink()
    describe(run)

    assert bare == {path: found(verify(path, level=level)) for path in bare}
    assert Status.OK is verify(run, level=level).status()


@pytest.mark.parametrize("level", list(Level))
def test_lost_shard(step: Path, level: Level) -> None:
    """A shard that one of two models lacks is missing in that one (F1)."""
    describe(step)
    (step / "actor" / RANK).unlink()
    report = verify(step, level=level)

    assert (Status.FAILED, {"ranks_missing", "file_missing"}) == (report.status(), codes(report))
    assert {str(step / "actor"), str(step / "actor" / RANK)} == {
        entry.path for entry in report.findings if entry.severity is Severity.ERROR
    }
    assert (Status.FAILED, Status.OK) == tuple(
        verify(step / role, level=level).status() for role in ("actor", "critic")
    )


def test_lost_metadata(broken: Callable[[str], Path]) -> None:
    """Of two distributed checkpoints one lacks what says where its weights lie."""
    first = broken("dcp_nested")
    shutil.copytree(first, first.with_name("other"))
    describe(first.parent)
    (first / ".metadata").unlink()
    report = verify(first.parent)

    assert Status.FAILED is report.status()
    assert {first} == {
        place if (place := first.parent / entry.path).is_dir() else place.parent
        for entry in report.findings
        if entry.severity is Severity.ERROR
    }


@pytest.mark.parametrize("described", ["step", "run"])
def test_zeros_of_one_model(step: Path, described: str) -> None:
    """An actor of nothing but zeros fails beside a sound critic, whatever path around or in it is given (F21)."""
    zero(step / "actor")
    paths = [step, step / "actor", step / "critic", *([step.parent] if described == "run" else [])]
    bare = [found(verify(path)) for path in paths]
    describe(step.parent if described == "run" else step)
    reports = [verify(path) for path in paths]

    assert bare == [found(report) for report in reports]
    assert ["failed", "failed", "ok", "failed"][: len(paths)] == [report.status().value for report in reports]
    assert {str(step / "actor")} == {entry.path for entry in reports[0].findings if entry.code == "all_zero_model"}


def test_zeros_of_one_tensor(step: Path) -> None:
    """A weight of zeros in one model is told, though the other has numbers in its own of that name."""
    zero(step / "critic", "up.weight")
    describe(step)
    (told,) = (entry for entry in verify(step).findings if entry.code == "all_zero")

    assert (str(step / "critic"), "up.weight") == (told.path, told.tensor)


def test_older_step(step: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run's steps the newest decides about weights; a byte that changed is an error in any of them."""
    older = shutil.copytree(step, step.with_name("global_step_5"))
    zero(older / "critic")
    describe(step.parent)
    report = verify(step.parent)
    (told,) = (entry for entry in report.findings if entry.code == "all_zero_model")
    assert (Status.OK, str(older / "critic"), Severity.WARN) == (report.status(), told.path, told.severity)
    capsys.readouterr()

    shard = older / "critic" / RANK
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert (1, True) == (main(["ckpt", "verify", str(step.parent)]), "digest_differs" in capsys.readouterr().out)


def test_newest_step_of_zeros(step: Path) -> None:
    """The newest step that is good is named, also where the manifest finds a file missing in the one before."""
    older = shutil.copytree(step, step.with_name("global_step_5"))
    oldest = shutil.copytree(step, step.with_name("global_step_3"))
    zero(step / "actor")
    describe(step.parent)

    def newest_good() -> list[str]:
        return [entry.message for entry in verify(step.parent).findings if entry.code == "newest_good"]

    assert [f"the newest good checkpoint is {older}"] == newest_good()
    (older / "actor" / "fsdp_config.json").unlink()
    assert [f"the newest good checkpoint is {oldest}"] == newest_good()


def test_step_that_changed_nothing(step: Path) -> None:
    """`--level deep` finds under a manifest, too, that a step changed nothing since the one before."""
    shutil.copytree(step, step.with_name("global_step_5"))
    bare = found(verify(step.parent, level=Level.DEEP))
    describe(step.parent)
    report = verify(step.parent, level=Level.DEEP)

    assert (Status.FAILED, {"step_unchanged"}) == (report.status(), codes(report))
    assert bare == found(report)
