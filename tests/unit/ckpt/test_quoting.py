"""What somebody else wrote, quoted in a message."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from orz_ckpt.quoting import brief, shell_path, shell_word

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "nothing"),
        ("model.norm.weight", "'model.norm.weight'"),
        ("\x1b[2Jgone\n", r"'\x1b[2Jgone\n'"),
        ("größe", r"'gr\xf6\xdfe'"),
        (7, "7"),
        ("a" * 58, f"'{'a' * 58}'"),
        ("a" * 59, f"'{'a' * 56}..."),
    ],
)
def test_brief(value: object, expected: str) -> None:
    """ASCII without control characters, at most 60 of them, the last three dots where something was cut."""
    assert expected == brief(value)
    assert len(expected) <= 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/runs/a", "/runs/a"),
        ("/runs/my run", "'/runs/my run'"),
        ("größe", "'größe'"),
        ("a\x1b[31m", r"$'a\x1b[31m'"),
        ("it's\\n\n", r"$'it\'s\\n\x0a'"),
        ("\u202e", r"$'\xe2\x80\xae'"),
        ("\udcff1", r"$'\xff1'"),
    ],
)
def test_shell_word(text: str, expected: str) -> None:
    """A command that is printed works where it is pasted, and the terminal obeys nothing in it."""
    assert expected == shell_word(text)


@pytest.mark.parametrize(
    ("path", "expected"), [("-dash", "./-dash"), ("-a b", "'./-a b'"), ("a/-dash", "a/-dash"), ("/runs/a", "/runs/a")]
)
def test_shell_path(path: str, expected: str) -> None:
    """A path is no option of the command that it stands in."""
    assert expected == shell_path(path)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("text", ["a b", "it's", "a\x1b[31m\\n\n1", "\u202eb", "\udcff1", "'\x07'\\"])
def test_a_shell_reads_it(text: str) -> None:
    """Bash makes of it what it was made from."""
    done = subprocess.run(["bash", "-c", f"printf %s {shell_word(text)}"], capture_output=True, check=True)

    assert os.fsencode(text) == done.stdout
