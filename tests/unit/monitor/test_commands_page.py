"""The reference page of commands, and the sample workflows of the how-to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from orz_cli.main import main
from orz_monitor.cli import app
from orz_monitor.cli.page import commands_page

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[3] / "docs"
HOW_TO = DOCS / "how-to" / "check-runs-in-ci.md"


def test_the_reference_page_is_current() -> None:
    """docs/reference/monitor-commands.md equals `orz_monitor.cli.page.commands_page()`; write that text to renew it."""
    assert commands_page() == (DOCS / "reference" / "monitor-commands.md").read_text(encoding="utf-8")


def test_the_page_has_what_help_has(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command, and every option that its --help lists."""
    page = commands_page()
    sections = {part.split("\n")[0].removeprefix("orz monitor "): part for part in page.split("\n## ")[1:]}
    assert set(sections) == {info.callback.__name__ for info in app.registered_commands if info.callback}
    for name, section in sections.items():
        assert main(["monitor", name, "--help"]) == 0
        shown = re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE)
        rows = re.findall(r"^\| (`-[^|]*)", section, flags=re.MULTILINE)
        named = {word for row in rows for word in row.split("`") if word.startswith("--")}
        assert set(shown) - {"--help"} == named, name


def test_workflows_of_the_how_to_are_yaml_and_call_what_exists() -> None:
    """Each sample parses; each command in it, with its options, is one of ours."""
    text = HOW_TO.read_text(encoding="utf-8")
    samples = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert len(samples) == 2
    assert all(isinstance(yaml.safe_load(sample), dict) for sample in samples)
    sections = {part.split("\n")[0].split()[-1]: part for part in commands_page().split("\n## ")[1:]}
    calls = re.findall(r"orz monitor (\w+)([^\n#`]*)", text)
    assert {"check", "report"} <= {name for name, _ in calls}
    for name, rest in calls:
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest):
            assert f"`{option}`" in sections[name], (name, option)
