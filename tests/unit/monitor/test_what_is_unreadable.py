"""What can't be read is told in one way: what, where, why, and what to do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from orz_monitor.addresses import located
from orz_monitor.configuration import load
from orz_monitor.configuration.model import ConfigurationError
from orz_monitor.errors import unreadable
from orz_monitor.rules import RULES

pytestmark = pytest.mark.unit

DENIED = PermissionError(13, "Permission denied", "runs/a/train.log")


@pytest.mark.parametrize(
    ("place", "error", "told"),
    [
        (Path("train.log"), OSError(5, "Input/output error"), "train.log: can't be read: Input/output error"),
        (Path("runs"), DENIED, "runs/a/train.log: can't be read: Permission denied"),
        (
            located("s3://b/x.log"),
            PermissionError(13, "Forbidden", "b/x.log"),
            "s3://b/x.log: can't be read: Forbidden",
        ),
        (Path("a.gz"), EOFError("ended too early"), "a.gz: can't be read: ended too early"),
        (Path("a.gz"), EOFError(), "a.gz: can't be read: EOFError"),
        ("-", OSError(9, "Bad file descriptor"), "standard input: can't be read: Bad file descriptor"),
        (Path("a\x1b[31m\nb.log"), OSError(5, "Input/output error"), "a b.log: can't be read: Input/output error"),
    ],
    ids=[
        "what was given",
        "a file in it",
        "a URL",
        "words only",
        "no words",
        "standard input",
        "a terminal's commands",
    ],
)
def test_what_where_and_why(place: Path | str, error: Exception, told: str) -> None:
    """The place that the user knows, and the system's reason."""
    assert told == unreadable(place, error).message


def test_what_to_do() -> None:
    """By the kind of error, unless whoever read it knows better."""
    assert "ask for permission to read it, or copy it to where you may" == unreadable("a", DENIED).remedy
    assert "check the path" == unreadable("a", FileNotFoundError(2, "No such file")).remedy
    damaged = unreadable("a.db", sqlite3.DatabaseError("malformed"), form="a SQLite database", remedy="copy it again")
    assert ("a.db: can't be read as a SQLite database: malformed", "copy it again") == (damaged.message, damaged.remedy)


@pytest.mark.parametrize(
    ("given", "failed_at", "told"),
    [
        ("closed", "closed/metrics.jsonl", "closed"),
        ("closed/run", "closed/run", "closed"),
        ("closed/run/metrics.jsonl", "closed/run/metrics.jsonl", "closed"),
        ("open", "open/unlisted", "open/unlisted"),
        ("open/unlisted/train.log", "open/unlisted/train.log", "open/unlisted/train.log"),
        ("open", "open/metrics.jsonl", "open/metrics.jsonl"),
    ],
)
def test_a_closed_folder_is_named(
    given: str, failed_at: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked for in it may not even be there; a folder on the way need not be listed, only passed."""
    for folder in ("closed/run", "open/unlisted"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "open/unlisted/train.log").touch()

    def access(path: Path, mode: int) -> bool:
        wanted = {"closed": os.X_OK, "unlisted": os.R_OK}.get(Path(path).name, 0)
        return not mode & wanted

    monkeypatch.setattr(os, "access", access)
    error = unreadable(tmp_path / given, PermissionError(13, "Permission denied", str(tmp_path / failed_at)))
    assert f"{tmp_path / told}: can't be read: Permission denied" == error.message
    assert ("r and x" in error.remedy) == (tmp_path / told).is_dir()


def test_a_configuration_that_can_not_be_read(tmp_path: Path) -> None:
    """It says so in the same words, and is a usage error as ever."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, RULES)
    assert f"{tmp_path}: can't be read: Is a directory" == caught.value.message
