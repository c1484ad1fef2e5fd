"""What the benchmarks write alike: tables, where and of which commit a page was made, and where it goes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def today(name: str) -> Path:
    """Return where a page of this name goes, made today."""
    return RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{name}.md"


def commit() -> str:
    """Name the commit of this tree, and whether it was changed since."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def machine() -> str:
    """Name the machine and its Python."""
    return f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}"


def _processor() -> str:
    """Name the kind of processor, as Linux does where it knows one."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({platform.machine()})"
    return platform.machine()


def made_by(command: str, *packages: str) -> str:
    """Say by what a page was made, when, of which commit, where, and with which versions of some packages."""
    where = ", ".join([machine(), *(f"{name} {version(name)}" for name in packages)])
    return f"Made by `{command}` on {datetime.now(UTC):%Y-%m-%d}, commit {commit()}:\n{where}."


def table(head: str, rows: Iterable[str]) -> str:
    """Write rows, whose cells are parted by ` | ` as in `head`, as a Markdown table."""
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1), *(f"| {row} |" for row in rows)]
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One number of a benchmark.

    Attributes:
        what: what was measured.
        value: the number.
        unit: its unit; `times` for a ratio.
        most: the largest value that is promised, or None.
        least: the smallest one, or None.
        digits: how many are shown behind the point.
    """

    what: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None
    digits: int = 2

    @property
    def is_met(self) -> bool:
        """Whether the number keeps what is promised; one without a promise does."""
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)

    @property
    def row(self) -> str:
        """The number as a row under `TARGETS`."""
        target = "-"
        if self.most is not None:
            target = f"at most {self.most:g} {self.unit}"
        if self.least is not None:
            target = f"at least {self.least:g} {self.unit}"
        met = "-" if target == "-" else "yes" if self.is_met else "**no**"
        return f"{self.what} | {self.value:.{self.digits}f} {self.unit} | {target} | {met}"


TARGETS = "what | measured | target | met"
"""The head of a table of `Measured`."""


def write(parts: Sequence[str], out: Path | None) -> None:
    """Write a page of these parts into a file, or to stdout."""
    text = "\n\n".join(parts) + "\n"
    if out is None:
        sys.stdout.write(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{out}\n")


def write_measured(title: str, introduction: str, measured: Sequence[Measured], out: Path | None) -> int:
    """Write a page of numbers; return the exit code: 1 where one of them misses its target."""
    write([f"# {title}", introduction, table(TARGETS, (one.row for one in measured))], out)
    return int(not all(one.is_met for one in measured))
