"""Runs the long matrices that the default tests leave out, and writes the table of what passed.

    python benchmarks/full_dist.py [--out FILE] [PYTEST_ARGUMENT ...]

A line of the table is one test over all its cases of one suite. Tests that compare numbers with an independent
computation record the largest difference that they saw, relative to the expected norm: it stands beside its bound.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from result_page import ROOT, made_by, table, today, write

DIFFERENCE, BOUND = "largest_difference", "bound"
"""Properties that a test records."""
XUNIT1 = ("-o", "junit_family=xunit1")
"""The family of reports that holds properties."""
TESTS = ("tests/component/train", "tests/e2e")
"""Those of the trainer; `nox -s full-ckpt` has the others."""
OUTCOMES = ("passed", "failed", "skipped")


@dataclass
class Line:
    """One test over its cases."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    differences: list[float] = field(default_factory=list)
    bounds: set[str] = field(default_factory=set)


def main() -> None:
    """Parse the command line, run, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=today("full-dist"))
    arguments, of_pytest = parser.parse_known_args()
    made = made_by("nox -s full-dist", *PACKAGES)  # of the tree that is tested, which may change meanwhile
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            "full",
            f"--junitxml={report}",
            *XUNIT1,
            *TESTS,
        ]
        code = subprocess.run([*command, *of_pytest], cwd=ROOT, check=False).returncode
        if not report.exists():
            sys.exit(code)
        lines = read(report)
    write(page(lines, made), arguments.out)
    sys.exit(code)


def read(report: Path) -> dict[tuple[str, str], Line]:
    """Add up pytest's report by test and suite."""
    lines: dict[tuple[str, str], Line] = defaultdict(Line)
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  pytest wrote it a moment ago
        test, _, parameters = case.get("name", "").partition("[")
        line = lines[test.removeprefix("test_").replace("_", " "), suite(parameters.removesuffix("]"))]
        line.seconds += float(case.get("time", 0))
        if case.find("failure") is not None or case.find("error") is not None:
            line.failed += 1
        elif case.find("skipped") is not None:
            line.skipped += 1
        else:
            line.passed += 1
        for entry in case.iter("property"):
            if entry.get("name") == DIFFERENCE:
                line.differences.append(float(entry.get("value", "nan")))
            elif entry.get("name") == BOUND:
                line.bounds.add(entry.get("value", ""))
    return lines


def suite(parameters: str) -> str:
    """Name the suite that a case belongs to: the first part of its id that names one."""
    return next((name for name in ("one-rank", "two-ranks") if parameters.startswith(name)), parameters or "-")


HEAD = "test | suite | passed | failed | skipped | largest difference | bound | seconds"
PACKAGES = ("torch", "deepspeed", "ray", "transformers")


def page(lines: dict[tuple[str, str], Line], made: str) -> list[str]:
    """Return the parts of the page."""
    counts = ", ".join(f"{sum(getattr(line, outcome) for line in lines.values())} {outcome}" for outcome in OUTCOMES)
    about = f"{made}\n{counts}. Differences are relative to the norm of what was expected."
    return ["# The long matrices", about, table(HEAD, rows(lines))]


def rows(lines: dict[tuple[str, str], Line]) -> Iterator[str]:
    """Write the lines of the table."""
    for (test, name), line in sorted(lines.items()):
        largest = f"{max(line.differences):.1e}" if line.differences else ""
        counts = f"{line.passed} | {line.failed} | {line.skipped}"
        yield f"{test} | {name} | {counts} | {largest} | {', '.join(sorted(line.bounds))} | {line.seconds:.0f}"


if __name__ == "__main__":
    main()
