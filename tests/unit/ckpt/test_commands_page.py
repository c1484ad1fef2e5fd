"""The reference page of the commands says what the commands say."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from orz_ckpt.cli import app
from orz_ckpt.cli.page import commands_page
from orz_cli.exits import ExitCode

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[3] / "docs/reference/cli-ckpt.md"


def test_the_reference_page_is_current() -> None:
    """docs/reference/cli-ckpt.md equals `orz_ckpt.cli.page.commands_page()`; write that text to renew it."""
    assert commands_page() == PAGE.read_text(encoding="utf-8")


def test_all_is_in_it() -> None:
    """Every command, every option of each, and every exit code; what may be said has a meaning."""
    page = commands_page()
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}
    commands = typer.main.get_command(app).commands
    assert list(commands) == list(sections)
    for name, command in commands.items():
        for option in command.params:
            if option.param_type_name == "option":
                assert f"`{option.opts[0]}" in sections[name], (name, option.opts)
            assert option.help, (name, option.name)
    assert all(f"| {int(code)} | " in page for code in ExitCode)


def test_choices_and_defaults_are_named() -> None:
    """What an option can be told, what it is by default, and what has to be given."""
    page = commands_page()
    assert "| `--level quick or sample or full or deep` | `full` |" in page
    assert "| `--to hf or orz-critic` | required |" in page
    assert "| `--json` |  | Short for --format json. |" in page
    assert "| `--seconds NUMBER` | `20.0` |" in page
    assert "`orz ckpt verify PATH... [OPTIONS]`" in page
    assert "`orz ckpt collect RUN... --to DEST [OPTIONS]`" in page
