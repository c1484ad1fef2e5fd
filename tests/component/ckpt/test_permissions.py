"""What this user may not read or write ends a command in a line: exit 3 where it was to be read, 1 to be written."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.cli.disk_errors import refused
from orz_ckpt.errors import UnreadableError, UnwritableError
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    Limited = Callable[[], AbstractContextManager[None]]

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users"),
]

STEP = "checkpoints/step_000030"
CHECKPOINTS = "checkpoints"
CONFIG = f"{STEP}/policy/config.json"


def told(words: Sequence[str], folder: Path, out: str) -> list[str]:
    """Return a command line with its paths below a folder, and `out` in it for OUT."""
    places = {word: word if word.startswith("run") else out for word in words if word.startswith(("OUT", "run"))}
    return ["ckpt", *(str(folder / places[word]) if word in places else word for word in words)]


@pytest.mark.parametrize(
    ("words", "locked"),
    [
        (("copy", "run", "OUT"), CONFIG),
        (("inspect", "run"), ""),
        (("inspect", "run"), CHECKPOINTS),
        (("prune", "run", "--keep-last", "1"), CHECKPOINTS),
        (("merge", f"run/{STEP}/policy", "OUT"), f"{STEP}/policy"),
        (("diff", f"run/{STEP}/policy", f"run/{STEP}/policy"), f"{STEP}/policy"),
    ],
)
def test_what_may_not_be_read(
    words: tuple[str, ...],
    locked: str,
    run: Path,
    public: Callable[[Path], Path],
    limited: Limited,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The path is named, and nothing was concluded: exit 3, no traceback."""
    path = public(run)
    (path.parent / "open").mkdir()
    (path.parent / "open").chmod(0o777)
    assert 0 == main(told(words, path.parent, "open/before"))  # what it loads, another user may not be able to
    capsys.readouterr()
    target = path / locked
    target.chmod(0o000)
    with limited():
        code = main(told(words, path.parent, "open/out"))
    target.chmod(0o755)
    said = capsys.readouterr().err

    assert (3, False, False) == (code, "Traceback" in said, "a bug in" in said)
    assert f"{target} cannot be read: Permission denied" in " ".join(said.split())


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("copy", "run", "OUT"), "locked/run"),
        (("diff", f"run/{STEP}/policy", f"run/{STEP}/policy", "--plot", "OUT"), "locked/a.svg"),
    ],
)
def test_what_may_not_be_written(
    words: tuple[str, ...],
    place: str,
    run: Path,
    public: Callable[[Path], Path],
    limited: Limited,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The path is named, and what was asked for was not done: exit 1, no traceback."""
    path = public(run)
    (path.parent / "locked").mkdir(mode=0o555)
    assert 0 == main(told(words, path.parent, f"before-{Path(place).name}"))
    capsys.readouterr()
    with limited():
        code = main(told(words, path.parent, place))
    said = capsys.readouterr().err

    assert (1, False, False) == (code, "Traceback" in said, "a bug in" in said)
    assert str(path.parent / "locked") in said
    assert "Permission denied" in said
    assert [] == list((path.parent / "locked").iterdir())


def test_it_is_told_to_programs(
    run: Path, public: Callable[[Path], Path], limited: Limited, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON says the same."""
    path = public(run)
    assert 0 == main(["ckpt", "inspect", str(path), "--json"])
    capsys.readouterr()
    path.chmod(0o000)
    with limited():
        code = main(["ckpt", "inspect", str(path), "--json"])
    path.chmod(0o755)
    document = json.loads(capsys.readouterr().out)

    assert (3, "inconclusive") == (code, document["status"])
    assert f"{path}" in document["findings"][0]["message"]


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
    assert refused(OSError(errno.EIO, os.strerror(errno.EIO))) is None
