"""The table of rules: by how many runs each is triggered, and on how many healthy ones it stays silent.

    python benchmarks/monitor_rules.py [--out FILE.md]

The runs are those of the tests of rules: whatever they judge is counted. A run is healthy where no rule has a warning
or an error. The pages that the rules and the metrics make of themselves must be those in docs/reference.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from result_page import ROOT, made_by, table, write

import orz_monitor.engine
from orz_cli.findings import Severity
from orz_monitor.engine import Verdict
from orz_monitor.findings import rank
from orz_monitor.metrics.page import explained_page
from orz_monitor.rules import RULES
from orz_monitor.rules.page import rules_page

INTRODUCTION = """\
The runs are those that the tests of rules judge. *Healthy* are runs in which no rule has a warning or an error; the
rule must have judged them and found nothing. The pages docs/reference/rules.md and metrics-explained.md are those that
the code makes."""
PAGES = {"rules.md": rules_page, "metrics-explained.md": explained_page}
"""Reference pages that the code makes of itself."""


@dataclass
class Seen:
    """What one rule said in the tests."""

    triggered: int = 0
    silent: int = 0
    worst: Severity = Severity.INFO
    by: list[tuple[int, bool, str]] = field(default_factory=list)
    """The tests that triggered it: rank of the severity, whether another finding was worse, name."""


class Witness:
    """A plugin of pytest that counts what `judge` says of each run."""

    def __init__(self) -> None:
        self.rules: dict[str, Seen] = defaultdict(Seen)
        self._judge: Callable[..., Verdict] = orz_monitor.engine.judge

    def pytest_sessionstart(self) -> None:
        """Stand in for `judge` before the tests import it."""
        orz_monitor.engine.judge = self._judge_and_count

    def pytest_sessionfinish(self) -> None:
        """Put it back."""
        orz_monitor.engine.judge = self._judge

    def _judge_and_count(self, *arguments: object, **named: object) -> Verdict:
        """Judge, and note what each rule said."""
        verdict = self._judge(*arguments, **named)
        for finding in verdict.findings:
            seen = self.rules[finding.code]
            seen.triggered += 1
            seen.worst = min(seen.worst, finding.severity, key=rank)
            test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].removesuffix(" (call)")
            seen.by.append((rank(finding.severity), finding is not verdict.findings[0], test))
        if all(finding.severity is Severity.INFO for finding in verdict.findings):
            for rule in verdict.passed:
                self.rules[rule.code].silent += 1
        return verdict


def row(code: str, seen: Seen) -> str:
    """Return the line of one rule, with a test in which it speaks first and at its worst."""
    if not seen.by:
        return f"{code} | **0** | - | - | {seen.silent}"
    _, _, test = min(seen.by)
    return f"{code} | {seen.triggered} | {seen.worst} | `{test}` | {seen.silent or '**0**'}"


def main() -> int:
    """Run the tests and write the table; return 1 where a rule lacks a run or a page is not current."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a Markdown file; by default stdout")
    arguments = parser.parse_args()
    witness = Witness()
    tests = sorted(map(str, (ROOT / "tests/unit/monitor").glob("test_rules_on_*.py")))
    code = int(pytest.main(["--quiet", f"--rootdir={ROOT}", *tests], plugins=[witness]))
    stale = [name for name, make in PAGES.items() if make() != (ROOT / "docs/reference" / name).read_text("utf-8")]
    lacking = [
        rule.code for rule in RULES if not (witness.rules[rule.code].triggered and witness.rules[rule.code].silent)
    ]
    rows = [row(rule.code, witness.rules[rule.code]) for rule in RULES]
    head = "rule | findings | worst | a test that triggers it | healthy runs that it is silent on"
    made = made_by("python benchmarks/monitor_rules.py")
    write(
        ["# Rules of orz monitor, each on faulty and on healthy runs", f"{made}\n\n{INTRODUCTION}", table(head, rows)],
        arguments.out,
    )
    for name in stale:
        sys.stderr.write(f"docs/reference/{name} is not what the code makes: write {PAGES[name].__name__}() into it\n")
    for name in lacking:
        sys.stderr.write(f"{name}: no run in the tests that triggers it, or no healthy one that it judges\n")
    return int(bool(code or stale or lacking))


if __name__ == "__main__":
    sys.exit(main())
