"""`verify` of a folder with several tags: what it says of those that it does not judge."""

from __future__ import annotations

import os
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from orz_ckpt.describing import describe_folder
from orz_ckpt.findings import Level, Report
from orz_ckpt.readers.deepspeed import names
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
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
    torch.save(Bomb(tmp_path / "canary"), path / file)
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


def spoiled(shard: Path, how: str, elsewhere: Path) -> None:
    """Make of a shard something that is no sound file of torch."""
    match how:
        case "cut off":
            os.truncate(shard, shard.stat().st_size - 100)
        case "empty":
            os.truncate(shard, 0)
        case "added to":
            shard.write_bytes(shard.read_bytes() + b"\0")
        case "huge":
            os.truncate(shard, 2**43)
        case "pipe":
            shard.unlink()
            os.mkfifo(shard)
        case "folder":
            shard.unlink()
            shard.mkdir()
        case "link out":
            shard.rename(elsewhere)
            shard.symlink_to(elsewhere)
        case "link to nothing":
            shard.unlink()
            shard.symlink_to("gone.pt")


SPOILED = ("cut off", "empty", "added to", "huge", "pipe", "folder", "link out", "link to nothing")


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
@pytest.mark.parametrize("how", SPOILED)
def test_what_cannot_be_looked_at_in_another_tag(
    how: str, level: Level, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    """A save that was killed left it, say: exit 3 and its name, with the tag that was read judged as it is alone."""
    path = broken("zero2")
    shard = path / STEP / "mp_rank_00_model_states.pt"
    alone = verify(path, level=level, tag="global_step3")
    spoiled(shard, how, tmp_path / "elsewhere.pt")
    report = verify(path, level=level)

    errors = [(entry.code, entry.path) for entry in report.findings if entry.severity is Severity.ERROR]
    assert (Status.INCONCLUSIVE, [("tag_not_read", str(shard))]) == (report.status(), errors)
    message, remedy = told(report)["tag_not_read"]
    assert message.startswith("not judged, nor can be told what loading it would run: ")
    assert remedy.endswith(f"; without it: orz ckpt verify {path} --tag global_step3")
    assert "2 tags beside 'global_step3': 'universal', 'mixed'" in told(report)["tags_not_judged"][0]
    others = [entry for entry in report.findings if entry.code not in {"tag_not_read", "tags_not_judged"}]
    assert list(alone.findings) == others
    assert 3 == main(["ckpt", "verify", str(path), "--level", level])
    assert Status.OK is verify(path, level=level, tag="global_step3").status()


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
@pytest.mark.parametrize("how", SPOILED)
def test_a_newer_tag_that_is_being_saved(how: str, level: Level, broken: Callable[[str], Path], tmp_path: Path) -> None:
    """While a save writes, its files look cut off: a warning, and nobody is told to remove them."""
    path = broken("zero2")
    shard = path / "global_step4" / "mp_rank_00_model_states.pt"
    shutil.copytree(path / "global_step3", shard.parent)
    next(shard.parent.glob("*rank_1*")).unlink()
    spoiled(shard, how, tmp_path / "elsewhere.pt")
    report = verify(path, level=level)

    warned = [(entry.code, entry.path) for entry in report.findings if entry.severity is Severity.WARN]
    assert (Status.OK, [("latest_behind", str(path / "latest")), ("tag_not_read", str(shard))]) == (
        report.status(),
        warned,
    )
    message, remedy = told(report)["tag_not_read"]
    assert message.endswith("; a save to it may be going on, or was cut off")
    assert remedy == f"verify again when it is done, or that tag alone: orz ckpt verify {path} --tag global_step4"
    assert NAMED in told(report)["tags_not_judged"][0]
    assert 0 == main(["ckpt", "verify", str(path), "--level", level])


def test_no_manifest_covers_a_newer_tag_that_is_being_saved(broken: Callable[[str], Path]) -> None:
    """Its bytes are not yet those that it will have."""
    path = broken("zero2")
    shutil.copytree(path / "global_step3", path / "global_step4")
    os.truncate(path / "global_step4" / "mp_rank_00_model_states.pt", 3000)
    described = describe_folder(path)
    assert (None, Status.FAILED) == (described.manifest, described.status())


def test_a_newer_tag_that_calls(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """A save that may be going on excuses no pickle that would run code."""
    path = broken("zero2")
    shutil.copytree(path / "global_step3", path / "global_step4")
    next((path / "global_step4").glob("*rank_1*")).write_bytes(b"")
    torch.save(Bomb(tmp_path / "canary"), path / "global_step4" / "mp_rank_00_model_states.pt")
    assert Status.REFUSED is verify(path).status()
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("latest", ["", "global_step9"], ids=["none", "gone"])
def test_a_cut_off_tag_where_nothing_says_what_is_newer(latest: str, broken: Callable[[str], Path]) -> None:
    """Without a usable `latest` no tag is known to be newer than the one to load: it is an error."""
    path = broken("zero2")
    os.truncate(path / "global_step3" / "mp_rank_00_model_states.pt", 3000)
    (path / "latest").write_text(latest, encoding="utf-8")
    errors = {entry.code for entry in verify(path).findings if entry.severity is Severity.ERROR}
    assert "tag_not_read" in errors


def test_a_damaged_file_that_torch_would_run(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """An archive with a byte behind it is no pass, nor said to be looked at: torch takes it, and runs its pickle."""
    path = broken("zero2")
    for name in ("universal", "mixed"):
        shutil.rmtree(path / name)
    shard = path / STEP / "mp_rank_00_model_states.pt"
    torch.save({"module": Bomb(tmp_path / "canary")}, shard)
    assert Status.REFUSED is verify(path).status()
    shard.write_bytes(shard.read_bytes() + b"\0")
    report = verify(path)

    assert Status.INCONCLUSIVE is report.status()
    assert ("tag_not_read" in told(report), "tags_not_judged" in told(report)) == (True, False)
    assert not (tmp_path / "canary").exists()
    torch.load(shard, weights_only=False)
    assert (tmp_path / "canary").exists()


def test_many_files_that_cannot_be_looked_at(broken: Callable[[str], Path]) -> None:
    """Of a tag the first is told with its cause, three more by name, and how many there are."""
    path = broken("zero2")
    (path / STEP / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"")
    for rank in range(2, 6):
        (path / STEP / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(b"")
    first, named = [entry for entry in verify(path).findings if entry.code == "tag_not_read"], [2, 3, 4]
    assert [f"{path}/{STEP}/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"] == [entry.path for entry in first]
    names_of = ", ".join(f"'bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt'" for rank in named)
    assert first[0].message.endswith(f"; nor of {names_of} and 1 more")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_another_tag_that_this_user_may_not_read(
    small: dict[str, Any],
    public: Callable[[Path], Path],
    limited: Callable[[], AbstractContextManager[None]],
) -> None:
    """Nobody looked at its files: exit 3, and the user is told where to look."""
    path = public(small["zero2"].checkpoint)
    shards = sorted((path / STEP).iterdir())
    for shard in shards:
        shard.chmod(0)
    verify(path, level=Level.QUICK)  # what it imports may be this user's alone
    with limited():
        report = verify(path)
    found = [(entry.code, entry.path) for entry in report.findings if entry.severity is Severity.ERROR]
    assert (Status.INCONCLUSIVE, [("tag_not_read", str(shards[0]))]) == (report.status(), found)
    assert f"check the permissions of {shards[0]}, and the disk; " in told(report)["tag_not_read"][1]


def test_a_tag_that_is_a_link_elsewhere(broken: Callable[[str], Path], tmp_path: Path) -> None:
    """It is a name of what lies elsewhere, and no checkpoint of this folder."""
    path = broken("zero2")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mp_rank_00_model_states.pt").write_bytes(b"")
    (path / "best").symlink_to(tmp_path / "elsewhere")
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


@pytest.mark.parametrize("tag", ["", "global_step3"])
@pytest.mark.parametrize(
    ("file", "code"), [("mp_rank_00_model_states.pt", "torch_invalid"), ("extra.safetensors", "header_invalid")]
)
def test_no_manifest_covers_a_broken_tag(file: str, code: str, tag: str, broken: Callable[[str], Path]) -> None:
    """`verify` fails on what is broken in any file that a manifest covers: none is written, and the file is named."""
    path = broken("zero2")
    (path / STEP / file).write_bytes(b"PK\3\4 and so on")
    described = describe_folder(path, tag=tag)
    if not tag and file.endswith(".pt"):
        code = "tag_not_read"  # which is found before any digest is computed
    errors = [(entry.code, entry.path) for entry in described.findings if entry.severity is Severity.ERROR]
    assert (None, False) == (described.manifest, (path / "manifest.json").exists())
    assert [(code, str(path / STEP / file))] == errors
    assert described.status().exit_code == main(["ckpt", "manifest", str(path), *(["--tag", tag] if tag else [])])

    shutil.rmtree(path / STEP)
    assert Status.OK is describe_folder(path, tag=tag).status()
    assert Status.OK is verify(path).status()
