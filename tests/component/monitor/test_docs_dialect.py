"""What docs/how-to/write-a-dialect.md shows is what happens."""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orz_cli.main import main
from orz_monitor import dialects

pytestmark = pytest.mark.component

PAGE = (Path(__file__).parents[3] / "docs/how-to/write-a-dialect.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def block(language: str, number: int = 0) -> str:
    """Return a code block of the page, counted among those of its language."""
    return [text for name, text in BLOCKS if name == language][number]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "acme_dialect", raising=False)
    Path("train.log").write_text(block("text"))
    Path("acme_dialect.py").write_text(block("python"))


def test_the_commands_run_and_the_table_is_what_they_write(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command of the page ends well with the class of the page, and the export is the one that it shows."""
    commands = block("sh").splitlines()
    assert len(commands) == 3
    for command in commands:
        assert main(command.split()[1:]) == 0, command
    assert block("csv") == Path("train.csv").read_text().replace("\r\n", "\n")
    assert "not logged policy/entropy (set log.entropy: true)" in " ".join(capsys.readouterr().out.split())


def test_no_dialect_of_ours_reads_that_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Or the page would show nothing."""
    assert main(["monitor", "check", "train.log"]) == 3
    assert "no metric recognised" in capsys.readouterr().out


def test_the_entry_point_makes_the_option_needless(capsys: pytest.CaptureFixture[str]) -> None:
    """With a package that is installed as its pyproject.toml says."""
    project = tomllib.loads(block("toml"))["project"]
    (folder := Path(f"{project['name'].replace('-', '_')}-{project['version']}.dist-info")).mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
        for group, named in project["entry-points"].items()
    )
    (folder / "entry_points.txt").write_text(points)
    dialects._of_packages.cache_clear()
    try:
        assert main(["monitor", "check", "train.log"]) == 0
    finally:
        dialects._of_packages.cache_clear()
    assert "steps 1 to 3" in capsys.readouterr().out


def test_its_tests_pass_and_can_fail(tmp_path: Path) -> None:
    """Those of the page; with another meaning the first one fails."""
    for test in page_tests():
        test(tmp_path)
    del sys.modules["acme_dialect"]
    longer = block("python").replace("policy/loss", "critic/value/loss")  # as long as before, it may stay compiled
    Path("acme_dialect.py").write_text(longer)
    with pytest.raises((AssertionError, KeyError)):
        page_tests()[0](tmp_path)


def page_tests() -> list[Callable[[Path], None]]:
    """Import the page's own tests."""
    found: dict[str, Any] = {}
    exec(block("python", 1), found)  # noqa: S102 - a page of ours
    tests = [value for name, value in found.items() if name.startswith("test_") and inspect.isfunction(value)]
    assert len(tests) == 2
    return tests
