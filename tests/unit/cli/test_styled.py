"""What people read is the same in a pipe and on a terminal, but for the styles."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from orz_cli.styled import print_styled

pytestmark = pytest.mark.unit

TEXT = [("OK ", "bold green"), ("a/[bold]b", "bold"), ("\n  1 file of 3 MB, " + "wide " * 60, ""), ("\n", "dim")]
WRITTEN = "OK a/[bold]b\n  1 file of 3 MB, " + "wide " * 60 + "\n"
"""As it stands above, in one line however long."""


class Terminal(io.StringIO):
    """A stdout that draws colours."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no variable of whoever runs the tests ask for colours."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_pipe_gets_the_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """No style, no markup, no wrapping."""
    print_styled(TEXT)
    assert WRITTEN == capsys.readouterr().out


def test_a_terminal_gets_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Escapes of ANSI around the same text."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_styled(TEXT)
    assert terminal.getvalue().startswith("\x1b[1;32mOK \x1b[0m\x1b[1ma/[bold]b\x1b[0m\n")


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_who_asks_for_colours_gets_them_in_a_pipe(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As rich does."""
    monkeypatch.setenv(name, "1")
    print_styled(TEXT)
    assert capsys.readouterr().out.startswith("\x1b[1;32mOK \x1b[0m")


def test_a_pipe_needs_no_rich() -> None:
    """It takes longer to load than all else that is written."""
    code = "import sys, orz_cli.styled as s; s.print_styled([('a', 'bold')]); print('rich' in sys.modules)"
    assert (
        "aFalse"
        == subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    )
