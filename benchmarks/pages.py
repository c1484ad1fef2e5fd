"""Parts of the pages in benchmarks/results: where a page comes from, and its tables."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def made_by(command: str, *packages: str) -> str:
    """Say what made a page: command, date, commit, machine in general words, versions of packages."""
    return (
        f"Made by `{command}` on {datetime.now(UTC):%Y-%m-%d}, commit {commit()}:\n{', '.join([machine(), *packages])}."
    )


def commit() -> str:
    """Name the commit of this tree."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=RESULTS.parent, check=True, capture_output=True, text=True).stdout.strip()


def machine() -> str:
    """Describe the machine in general words."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def versions(*names: str) -> list[str]:
    """Name packages with their versions."""
    return [f"{name} {version(name)}" for name in names]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---"] * len(heads), *rows])


def today(name: str) -> Path:
    """Return where the page `name` of today goes."""
    return RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{name}.md"
