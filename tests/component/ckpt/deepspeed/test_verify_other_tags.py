"""`verify` of a folder with several tags: what it says of those that it does not judge."""

from __future__ import annotations

import os
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.findings import Level, Report
from orz_ckpt.readers.deepspeed import names
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.component

STEP = "global_step2"
NAMED = "not judged, but for what their pickles would call: 3 tags beside 'global_step3': "


class Bomb:
    """What would make a folder if anything loaded it."""

    def __init__(self, canary: Path) -> None:
        self._canary = str(canary)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self._canary,)


def told(report: Report) -> dict[str, tuple[str, str]]:
    """Return message and remedy of each code."""
    return {entry.code: (entry.message, entry.remedy) for entry in report.findings}


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_other_tags_are_named(level: Level, small: dict[str, Any]) -> None:
    """An OK is of one tag: a note says so, and gives the command that judges the next newest."""
    path = small["zero2"].checkpoint
    report = verify(path, level=level)
    expected = (f"{NAMED}'{STEP}', 'universal', 'mixed'", f"orz ckpt verify {path} --tag {STEP}")
    assert (Status.OK, expected) == (report.status(), told(report)["tags_not_judged"])

    for asked, tag in ((path, "global_step3"), (path, STEP), (path / STEP, "")):
        assert "tags_not_judged" not in told(verify(asked, level=level, tag=tag))


def test_many_tags_are_named_in_part(broken: Callable[[str], Path]) -> None:
    """The newest three, and that there are more; one tag alone is no matter."""
    path = broken("zero2")
    shutil.copytree(path / STEP, path / "global_step1")
    assert (
        "4 tags beside 'global_step3': 'global_step2', 'global_step1', 'universal', ..."
        in told(verify(path))["tags_not_judged"][0]
    )

    for folder in path.iterdir():
        if folder.is_dir() and folder.name != "global_step3":
            shutil.rmtree(folder)
    assert "tags_not_judged" not in told(verify(path))


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
@pytest.mark.parametrize(
    "file",
    [f"{STEP}/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", "universal/zero/first.weight/exp_avg.pt"],
)
def test_a_pickle_of_another_tag_that_calls(
    file: str, level: Level, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    """Whoever loads that tag runs it: exit 4, with its file, and nothing is run; a tag asked for stands for itself."""
    path = broken("zero2")
    (path / file).write_bytes(pickle.dumps(Bomb(tmp_path / "canary"), protocol=2))
    report = verify(path, level=level)
    errors = [(entry.code, entry.path) for entry in report.findings if entry.severity is Severity.ERROR]
    assert (Status.REFUSED, [("pickle_calls", str(path / file))]) == (report.status(), errors)
    assert 4 == main(["ckpt", "verify", str(path), "--level", level])

    assert Status.OK is verify(path, level=level, tag="global_step3").status()
    assert Status.OK is verify(path, level=level, inert=frozenset({"posix.mkdir"})).status()
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("latest", [None, "global_step9", "", "a/b"], ids=["none", "gone", "empty", "a path"])
def test_a_pickle_that_calls_where_no_tag_was_read(
    latest: str | None, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    """Without a usable `latest` any tag may be loaded by its name: exit 4, as where one was read."""
    path = broken("zero2")
    (path / "latest").unlink()
    if latest is not None:
        (path / "latest").write_text(latest, encoding="utf-8")
    assert Status.FAILED is verify(path).status()
    file = path / STEP / "mp_rank_00_model_states.pt"
    file.write_bytes(pickle.dumps(Bomb(tmp_path / "canary"), protocol=2))
    report = verify(path)

    assert (Status.REFUSED, [str(file)]) == (
        report.status(),
        [entry.path for entry in report.findings if entry.code == "pickle_calls"],
    )
    assert 4 == main(["ckpt", "verify", str(path)])
    assert Status.FAILED is verify(path, inert=frozenset({"posix.mkdir"})).status()
    assert not (tmp_path / "canary").exists()


def test_what_is_broken_in_another_tag_is_not_judged(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """A torn shard, a link out and a tag that is a link change nothing: the note says that nobody judged them."""
    path = broken("zero2")
    shard = path / STEP / "mp_rank_00_model_states.pt"
    os.truncate(shard, 100)
    (tmp_path / "elsewhere").mkdir()
    outside = tmp_path / "elsewhere" / shard.name
    outside.write_bytes(pickle.dumps(Bomb(tmp_path / "canary"), protocol=2))
    (path / "mixed" / shard.name).unlink()
    (path / "mixed" / shard.name).symlink_to(outside)
    (path / "best").symlink_to(outside.parent)
    report = verify(path)

    assert Status.OK is report.status()
    assert told(report)["tags_not_judged"][0].startswith(NAMED)


def test_a_tag_that_is_removed_meanwhile(broken: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed, and gone when its files are looked for: the verdict on the other stays."""
    path, listed = broken("zero2"), names.files

    def removed(folder: Path) -> tuple[Path, ...]:
        if folder.name == STEP:
            shutil.rmtree(folder, ignore_errors=True)
        return listed(folder)

    monkeypatch.setattr(names, "files", removed)
    report = verify(path)
    assert (Status.OK, False) == (report.status(), (path / STEP).exists())
    assert "unreadable" not in told(report)
