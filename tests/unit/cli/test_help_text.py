"""Help on a terminal: wrapped where the terminal ends, names without backticks, choices broken between words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from orz_cli.commands import Command
from orz_cli.entry_points import EntryPoint
from orz_cli.help_text import for_terminals

pytestmark = pytest.mark.unit

SOURCE = '''
from enum import StrEnum
from typing import Annotated
import typer
Form = StrEnum("Form", ["text", "json", "junit", "sarif", "github"])
Short = StrEnum("Short", ["warn", "error"])
def judge(form: Annotated[Form, typer.Option("--format", help="See `orz x`.")] = Form.text, to: Short = Short.warn):
    """Judge a run.

    One line of this paragraph ends here, and
    goes on; `q` leaves.

    - an item
    - another
    """
'''


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command that a package brings."""
    (tmp_path / "plug_help.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plug_help", raising=False)
    entry_point = EntryPoint(name="judge", value="plug_help:judge", package="acme", version="1.0")
    return Command(name="judge", package="acme", version="1.0", entry_point=entry_point)


def help_of(loaded: Any) -> str:
    return str(loaded.get_help(typer.Context(loaded, info_name="judge")))


def test_paragraphs_are_wrapped_anew_and_lists_stay() -> None:
    """Names in backticks are bold; what stands in brackets would be a style, and is left."""
    assert "A b.\n\nC d [bold]e f[/bold]." == for_terminals("A\nb.\n\nC\nd `e f`.")
    assert "A.\n\n- b\n- c\n\n  d\n  e" == for_terminals("A.\n\n- b\n- c\n\n  d\n  e")
    assert "\b\na\nb" == for_terminals("\b\na\nb")
    assert "`pip install x[y]`" == for_terminals("`pip install x[y]`")
    assert (None, "") == (for_terminals(None), for_terminals(""))


def test_help_of_80_columns(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """No choice and no paragraph is broken in the middle; short choices are as typer writes them."""
    console = Console(width=80, color_system=None, force_terminal=False, record=True)
    monkeypatch.setattr("typer.rich_utils._get_rich_console", lambda **_: console)
    with console.capture() as captured:
        help_of(command.load("rich"))
    lines = [line.strip(" │") for line in captured.get().splitlines()]
    assert "One line of this paragraph ends here, and goes on; q leaves." in lines
    assert ["- an item", "- another"] == [line for line in lines if line.startswith("- ")]
    assert "--format        <text|json|junit|  See orz x. [default: text]" in lines
    assert "sarif|github>" in lines
    assert "<warn|error>" in " ".join(lines)


def test_help_in_a_pipe_is_as_written(command: Command) -> None:
    """Backticks stay, and so do choices, in one word: other programs read it."""
    text = help_of(command.load(None))
    assert "`q` leaves" in text
    assert "text|json|junit|sarif|github" in text
