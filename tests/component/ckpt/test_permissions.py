"""What this user may not read or write ends a command in a line: exit 3 where it was to be read, 1 to be written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.copy.tree import LocalTree
from orz_ckpt.disk_errors import refused
from orz_ckpt.errors import UnreadableError, UnwritableError
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    Limited = Callable[[], AbstractContextManager[None]]

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users"),
]

CHECKPOINTS = "run/checkpoints"
STEP = f"{CHECKPOINTS}/step_000030"
POLICY = f"{STEP}/policy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    said: str
    """All that it wrote, in one line."""


@pytest.fixture
def place(run: Path, public: Callable[[Path], Path]) -> Path:
    """A folder with a copy of the run that every user may read; in `open` every user may write, in `locked` none."""
    folder = public(run).parent
    for name, mode in (("open", 0o777), ("locked", 0o555)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    return folder


@pytest.fixture
def orz_ckpt(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Ended]:
    """The function that runs a command line; the words of it that name places lie below `place`."""

    def ended(words: str) -> Ended:
        names = ("run", "open", "locked", "file")
        spelled = [str(place / word) if word.partition("/")[0] in names else word for word in words.split()]
        capsys.readouterr()
        code = main(["ckpt", *spelled])
        captured = capsys.readouterr()
        assert ("Traceback" in captured.err, "a bug in" in captured.err) == (False, False), captured.err
        return Ended(code=code, out=captured.out, said=" ".join((captured.out + captured.err).split()))

    return ended


@pytest.mark.parametrize(
    ("words", "locked"),
    [
        ("copy run open/OUT", f"{POLICY}/config.json"),
        ("inspect run", "run"),
        ("inspect run", CHECKPOINTS),
        ("verify run", "run"),
        ("prune run --keep-last 1", CHECKPOINTS),
        (f"merge {POLICY} open/OUT", POLICY),
        (f"diff {POLICY} {POLICY}", POLICY),
    ],
)
def test_what_may_not_be_read(
    words: str, locked: str, place: Path, orz_ckpt: Callable[[str], Ended], limited: Limited
) -> None:
    """The path is named, and nothing was concluded: exit 3, no traceback."""
    assert 0 == orz_ckpt(words.replace("OUT", "before")).code  # what it loads, another user may not be able to
    (place / locked).chmod(0o000)
    with limited():
        ended = orz_ckpt(words)
    (place / locked).chmod(0o755)

    assert 3 == ended.code
    assert f"{place / locked} cannot be read: Permission denied" in ended.said


def test_a_folder_of_a_step_that_may_not_be_listed(
    place: Path, orz_ckpt: Callable[[str], Ended], limited: Limited
) -> None:
    """Of the files in it nobody can say that they are missing: exit 3."""
    (place / STEP / "state").chmod(0o000)
    with limited():
        ended = orz_ckpt(f"verify {STEP} --json")
    (place / STEP / "state").chmod(0o755)
    found = json.loads(ended.out)["findings"]

    assert (3, [("unreadable", str(place / STEP / "state"))]) == (
        ended.code,
        [(entry["code"], entry["path"]) for entry in found],
    )


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ("copy run WHERE/run", ".run.orz-copy"),
        (f"diff {POLICY} {POLICY} --plot WHERE/a.svg", "a.svg"),
    ],
)
def test_what_may_not_be_written(
    words: str, path: str, place: Path, orz_ckpt: Callable[[str], Ended], limited: Limited
) -> None:
    """The path is named, and what was asked for was not done: exit 1, no traceback."""
    assert 0 == orz_ckpt(words.replace("WHERE", "open")).code
    with limited():
        ended = orz_ckpt(words.replace("WHERE", "locked"))

    assert 1 == ended.code
    assert f"{place}/locked/{path} cannot be written: Permission denied" in ended.said
    assert f"this user may write to {place}/locked" in ended.said
    assert [] == list((place / "locked").iterdir())


@pytest.mark.parametrize("words", ["copy run file/OUT", f"merge {POLICY} file/OUT", "collect run --to file/OUT"])
def test_no_folder_where_something_is_to_be_written(words: str, place: Path, orz_ckpt: Callable[[str], Ended]) -> None:
    """A file stands where the folder around it would be: it cannot be written, and to try again is no help."""
    (place / "file").write_bytes(b"x")
    ended = orz_ckpt(words)

    assert (1, True) == (ended.code, "Not a directory" in ended.said)
    assert f"{place / 'file'} is no folder: name another place" in ended.said
    assert "cannot be read" not in ended.said
    assert b"x" == (place / "file").read_bytes()


def test_a_folder_that_goes_away_before_a_picture_is_written(
    place: Path, orz_ckpt: Callable[[str], Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not written is the picture, and the folder that it needs is named."""

    def gone(_: object) -> str:
        (place / "open").rmdir()
        return "<svg/>"

    monkeypatch.setattr("orz_ckpt.diff.picture.to_svg", gone)
    ended = orz_ckpt(f"diff {POLICY} {POLICY} --plot open/a.svg")

    assert 1 == ended.code
    assert f"{place}/open/a.svg cannot be written: No such file or directory" in ended.said
    assert f"mkdir -p {place}/open, then run it again" in ended.said


def test_a_source_that_goes_away_while_it_is_copied(
    place: Path, orz_ckpt: Callable[[str], Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same error of the system, where it was reading that met it: exit 3."""
    real = LocalTree.read

    def vanishing(tree: LocalTree, name: str, offset: int = 0) -> Any:
        shutil.rmtree(place / STEP, ignore_errors=True)
        return real(tree, name, offset)

    monkeypatch.setattr(LocalTree, "read", vanishing)
    ended = orz_ckpt(f"copy {STEP} open/OUT")

    assert 3 == ended.code
    assert f"{place / STEP}" in ended.said
    assert "cannot be read: No such file or directory" in ended.said


def test_it_is_told_to_programs(place: Path, orz_ckpt: Callable[[str], Ended], limited: Limited) -> None:
    """JSON says the same."""
    assert 0 == orz_ckpt("inspect run --json").code
    (place / "run").chmod(0o000)
    with limited():
        ended = orz_ckpt("inspect run --json")
    (place / "run").chmod(0o755)
    document = json.loads(ended.out)

    assert (3, "inconclusive", str(place / "run")) == (ended.code, document["status"], document["path"])
    assert f"{place / 'run'} cannot be read" in document["findings"][0]["message"]


def test_reading_is_told_from_writing(tmp_path: Path) -> None:
    """By the error where it says so, else by whether what is there may be read."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for number, path, expected in [
        (errno.EROFS, file, UnwritableError),
        (errno.ENOSPC, file, UnwritableError),
        (errno.EACCES, file, UnwritableError),  # it may be read, so it was not that
        (errno.EACCES, tmp_path / "new", UnwritableError),
        (errno.EIO, file, UnreadableError),
        (errno.ESTALE, tmp_path / "gone", UnreadableError),
    ]:
        found = refused(OSError(number, os.strerror(number), str(path)))
        assert expected is type(found)
        assert f"{path} cannot be" in str(found)
    moved = refused(OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(file), None, str(tmp_path / "new")))
    assert (UnwritableError, True) == (
        type(moved),
        f"{tmp_path / 'new'} cannot be" in str(moved),
    )  # only a move has two
    assert refused(OSError(errno.EIO, os.strerror(errno.EIO))) is None
