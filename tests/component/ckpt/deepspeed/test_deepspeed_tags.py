"""The tags of a DeepSpeed checkpoint: which one is read, which files are its own, and what is no tag."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.errors import EscapeError, FormatError, MissingPathError
from orz_ckpt.inspection import inspect
from orz_ckpt.readers.deepspeed import names, read, recognises, tags
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source

pytestmark = pytest.mark.component

STEP = "global_step2"
OPTIM = "zero_pp_rank_{}_mp_rank_00_optim_states.pt"


def only(source: Source) -> CkptFinding:
    (found,) = source.findings
    return found


def test_latest_names_the_tag(small: dict[str, Any]) -> None:
    """Without a tag, `latest` decides; a tag's own folder needs neither."""
    path = small["zero2"].checkpoint
    assert (3, "global_step3") == (read(path).step, read(path).facts["tag"])
    assert 2 == read(path / STEP).step
    assert 2 == read(path, tag=STEP).step
    assert path / "latest" in read(path).files
    assert all(recognises(folder) for folder in (path, path / STEP, path / "universal"))
    assert not recognises(small["zero2"].folder)


def test_a_dangling_latest_names_the_newest_whole_tag(broken: Callable[[str], Path]) -> None:
    """`latest` was written before the tag was whole, and the tag is gone: the remedy names another one."""
    path = broken("zero2")
    (path / "latest").write_text("global_step4\n")
    (path / "global_step3" / "mp_rank_00_model_states.pt").unlink()
    shutil.rmtree(path / "mixed")
    source = read(path)
    assert ({}, "tag_missing") == (source.tensors, only(source).code)
    assert "`latest` names 'global_step4', which is not here" in only(source).message
    assert only(source).remedy.endswith("--tag global_step2")


@pytest.mark.parametrize("latest", ["global_step9", "global_step3", None], ids=["dangling", "broken", "none"])
def test_ranks_without_a_gap_are_not_all_ranks(latest: str | None, broken: Callable[[str], Path]) -> None:
    """A node holds ranks 0 to k of the newest tag: its files say of how many, and the older, whole tag is proposed."""
    path = broken("zero2")
    for folder in (path / "mixed", path / "universal"):
        shutil.rmtree(folder)
    next((path / "global_step3").glob("*rank_1*")).unlink()
    (path / "latest").unlink()
    if latest:
        (path / "latest").write_text(latest)
    remedies = [entry.remedy for entry in verify(path).findings if "--tag" in entry.remedy]
    assert {STEP} == {remedy.partition("--tag ")[2] for remedy in remedies}

    next((path / STEP).glob("*rank_1*")).unlink()
    told = [entry for entry in verify(path).findings if entry.code not in {"no_manifest", "tags_not_judged"}]
    assert [] == [entry for entry in told if "--tag" in entry.remedy]
    assert "orz ckpt locate" in told[0].remedy


def test_latest_names_a_tag_without_shards(broken: Callable[[str], Path]) -> None:
    """Its folder is here, and what should be in it is not."""
    path = broken("zero2")
    (path / "latest").write_text("global_step4")
    (path / "global_step4").mkdir()
    assert "`latest` names 'global_step4', in which there are no shards; tags here: " in only(read(path)).message


def test_several_tags_without_latest_are_not_guessed(broken: Callable[[str], Path]) -> None:
    """Which of them is meant is the user's to say; the newest is proposed."""
    path = broken("zero2")
    (path / "latest").unlink()
    source = read(path)
    expected = "say which; the newest tag that looks complete: --tag global_step3"
    assert ("tag_missing", expected) == (only(source).code, only(source).remedy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b",
        "\x1b[2J",
        "\xff" * 5000,
        ".",
        "global_step2/..",
        "a\\..\\b",
        "..\x1b[2J/..",
        "x\0/../..",
        "{here}/global_step2",
    ],
)
def test_a_latest_that_names_no_folder_is_not_followed(text: str, broken: Callable[[str], Path]) -> None:
    """It has to be the name of a folder beside it; nothing else is opened or printed raw.

    A path that stays in the folder, an absolute one too, is no name and no attempt to lead out: exit 1.
    """
    path = broken("zero2")
    (path / "latest").write_text(text.format(here=path), encoding="latin-1")
    with pytest.raises(FormatError, match="is not the name of a folder beside it") as caught:
        read(path)
    assert 1 == main(["ckpt", "verify", str(path)])
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "text", ["../other/global_step2", "/etc", "..", "global_step2/../../x", "..\\b", "..\x1b[2J/../.."]
)
def test_a_latest_that_leads_out_is_refused(
    text: str,
    broken: Callable[[str], Path],
    judged_by_all: Callable[[Path], dict[str, tuple[int, list[str]]]],
) -> None:
    """DeepSpeed would load from there; no command does, also where a checkpoint is there: exit 4."""
    path = broken("zero2")
    (path / "latest").write_text(text, encoding="utf-8")
    with pytest.raises(EscapeError, match="leads out of this folder") as caught:
        read(path)
    assert caught.value.message.isprintable()
    results = judged_by_all(path)
    assert (4, [str(path)]) == results.pop("verify")
    del results["inspect"]  # of a folder with several tags it shows each
    assert {4} == {code for code, _ in results.values()}
    assert "pickle_calls" not in {entry.code for entry in verify(path).findings}
    assert 2 == read(path, tag=STEP).step


def test_a_latest_is_followed_as_the_system_would(broken: Callable[[str], Path]) -> None:
    """`..` behind a link goes up from where the link leads to; a folder's other name is the same folder."""
    path = broken("zero2")
    (path.parent / "other").symlink_to(path)
    (path / "latest").write_text(str(path.parent / "other" / STEP))
    with pytest.raises(FormatError, match="is not the name of a folder beside it"):
        read(path)
    (path.parent / "elsewhere" / "inner").mkdir(parents=True)
    (path / "link").symlink_to(path.parent / "elsewhere" / "inner")
    (path / "latest").write_text("link/../global_step2")
    with pytest.raises(EscapeError, match="leads out of this folder"):
        read(path)


def test_an_unknown_tag_is_wrong_usage(small: dict[str, Any]) -> None:
    """The error lists the tags that are there."""
    for tag in ("global_step9", "../zero3/checkpoint", "latest"):
        with pytest.raises(MissingPathError, match=r"has no tag .*\n.*'global_step2', 'global_step3'"):
            read(small["zero2"].checkpoint, tag=tag)


def test_a_folder_of_something_else_is_not_recognised(tmp_path: Path) -> None:
    """Neither by `recognises` nor by `read`, which says what it looked for."""
    (tmp_path / "optim_states.pt").touch()
    (tmp_path / "global_step2").mkdir()
    assert not recognises(tmp_path)
    with pytest.raises(FormatError, match="no DeepSpeed checkpoint"):
        read(tmp_path)


def test_folders_that_may_not_be_looked_into_are_none_of_its_tags(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recognising a folder looks into all that lie in it, such as lost+found, and must not fail there."""

    def holds_one(folder: Path) -> bool:
        if folder.name == "mixed":
            raise PermissionError(13, "Permission denied", str(folder))
        return names.holds_one(folder)

    monkeypatch.setattr(tags, "holds_one", holds_one)
    present = [folder.name for folder in tags.tags(small["zero2"].checkpoint)]
    assert ["universal", STEP, "global_step3"] == present


def test_only_its_own_files_belong_to_it(broken: Callable[[str], Path]) -> None:
    """What else lies in a tag's folder is not listed: it may be a home directory."""
    path = broken("zero3")
    (path / STEP / "notes.txt").touch()
    (path / STEP / "large").mkdir()
    (path / STEP / "large" / "zero_pp_rank_9_mp_rank_00_optim_states.pt").touch()
    (path / STEP / "offloaded_tensors" / "rank00").mkdir(parents=True)
    (path / STEP / "offloaded_tensors" / "rank00" / "1.tensor.swp").touch()
    expected = [
        f"bf16_{OPTIM.format(0)}",
        f"bf16_{OPTIM.format(1)}",
        "offloaded_tensors/rank00/1.tensor.swp",
        "zero_pp_rank_0_mp_rank_00_model_states.pt",
        "zero_pp_rank_1_mp_rank_00_model_states.pt",
    ]
    assert expected == [file.relative_to(path / STEP).as_posix() for file in read(path, tag=STEP).files]


def test_any_command_opens_it(small: dict[str, Any]) -> None:
    """`open_source` finds the format, and passes the tag on."""
    assert ("deepspeed-zero2", 2) == (
        open_source(small["zero2"].checkpoint, tag=STEP).format,
        open_source(small["zero2"].checkpoint, tag=STEP).step,
    )


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("zero2", f"{STEP}/bf16_{OPTIM.format(1)}"),
        ("zero2", f"{STEP}/mp_rank_00_model_states.pt"),
        ("zero3", f"{STEP}/zero_pp_rank_1_mp_rank_00_model_states.pt"),
        ("zero2", "latest"),
    ],
)
def test_a_link_out_is_refused_by_every_command(
    broken: Callable[[str], Path],
    link_out: Callable[[Path], None],
    judged_by_all: Callable[[Path], dict[str, tuple[int, list[str]]]],
    case: str,
    name: str,
) -> None:
    """A shard, or the file that names the tag, which lies elsewhere: one finding, exit 4, and nothing is written."""
    path = broken(case)
    (path / "latest").write_text(STEP)
    for folder in (path / "global_step3", path / "universal", path / "mixed"):
        shutil.rmtree(folder, ignore_errors=True)
    link_out(path / name)
    told = {command: (4, [str(path / name)]) for command in ("verify", "inspect", "merge", "convert")}

    assert told | {"diff": (4, [])} == judged_by_all(path)


def test_a_link_between_tags_stays_inside(
    broken: Callable[[str], Path], judged_by_all: Callable[[Path], dict[str, tuple[int, list[str]]]]
) -> None:
    """A link from a tag to a file beside it stays in the folder that was saved to, and leads out of the tag alone."""
    path = broken("zero2")
    for folder in (path / "global_step3", path / "universal", path / "mixed"):
        shutil.rmtree(folder, ignore_errors=True)
    (path / "latest").write_text(STEP)
    shard = path / STEP / f"bf16_{OPTIM.format(1)}"
    shard.rename(path / "shared.pt")
    shard.symlink_to("../shared.pt")

    assert {(0, ())} == {(code, tuple(told)) for code, told in judged_by_all(path).values()}
    assert {4} == {code for code, _ in judged_by_all(path / STEP).values()}


@pytest.mark.parametrize(
    ("latest", "tag", "expected"),
    [
        ("global_step3", STEP, f" --tag {STEP}"),
        ("global_step3", "global_step3", ""),
        ("global_step3", "", ""),
        ("global_step9", STEP, f" --tag {STEP}"),
        ("../elsewhere", STEP, f" --tag {STEP}"),
        (None, STEP, f" --tag {STEP}"),
    ],
)
def test_the_next_step_is_of_the_tag_that_was_judged(
    latest: str | None, tag: str, expected: str, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    """`verify --tag` of an older one proposes a merge of that one; pasted, it writes its step."""
    path = broken("zero2")
    (path / "latest").unlink()
    if latest:
        (path / "latest").write_text(latest)
    (found,) = (entry for entry in verify(path, tag=tag).findings if entry.code == "not_merged")
    command = found.remedy.partition(": ")[2]
    assert f"orz ckpt merge {path} OUT{expected}" == command

    out = str(tmp_path / "out")
    assert 0 == main([out if word == "OUT" else word for word in command.split()[1:]])
    assert (2 if tag == STEP else 3) == open_source(tmp_path / "out").step
    again = [entry.remedy for entry in verify(tmp_path / "out").findings if entry.code == "config_missing"]
    asked = tag or "global_step3"
    assert [f"orz ckpt merge {path} OUT --config DIR --tag {asked}"] == [remedy.partition("  ")[0] for remedy in again]


def test_the_next_step_of_the_only_tag(broken: Callable[[str], Path]) -> None:
    """Nothing has to be named where there is one, or where its own folder was given."""
    path = broken("zero3")
    for entry in (path / "latest", *path.glob("latest_*")):
        entry.unlink()
    for folder in path.iterdir():
        if folder.is_dir() and folder.name != STEP:
            shutil.rmtree(folder)
    for asked, tag in ((path, ""), (path, STEP), (path / STEP, "")):
        (found,) = (entry for entry in verify(asked, tag=tag).findings if entry.code == "not_merged")
        assert found.remedy.endswith(f"orz ckpt merge {asked} OUT")


def test_inspect_shows_one_tag(broken: Callable[[str], Path]) -> None:
    """The one that was asked for, else the one that `latest` names: the others are neither models of it nor its faults.

    A torn shard of another tag is none of its business.
    """
    path = broken("zero2")
    shutil.rmtree(path / "global_step3")
    (path / "global_step3").mkdir()
    (path / "global_step3" / OPTIM.format(0)).write_bytes(b"torn")
    (path / "latest").write_text(STEP)
    for looked in (inspect(path), inspect(path, tag=STEP)):
        (model,) = looked.models
        assert ("deepspeed-zero2", Status.OK, {}) == (looked.kind, looked.status(), looked.to_json()["roles"])
        assert ("", 2, STEP) == (model.role, model.source.step, model.source.facts["tag"])
    assert Status.FAILED is inspect(path, tag="global_step3").status()
    assert 0 == main(["ckpt", "inspect", str(path), "--tag", STEP])


def test_inspect_of_an_unknown_tag(small: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage, with the tags that are there."""
    assert 2 == main(["ckpt", "inspect", str(small["zero2"].checkpoint), "--tag", "global_step9"])
    assert "'global_step2', 'global_step3'" in capsys.readouterr().err
