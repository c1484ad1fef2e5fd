"""The reference page of all findings, `docs/reference/findings-ckpt.md`, made from the rules and their explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.explain.files import FILES
from orz_ckpt.explain.nodes import NODES
from orz_ckpt.explain.shards import SHARDS
from orz_ckpt.findings import RULES
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

FAMILIES: Final = {
    "Files, models and numbers": FILES,
    "Shards, adapters and conversions": SHARDS,
    "Nodes and their disks": NODES,
}
"""Title -> code -> cause and remedy."""

_INTRODUCTION: Final = """\
# Findings of orz ckpt

<!-- Made from orz_ckpt.findings and orz_ckpt.explain by orz_ckpt.explain.page; edit those, not this page. -->

Every `code` that a command of `orz ckpt` can report. Codes are stable: scripts may match them. An *error* makes the
exit code the number behind it: 1 failed, 3 could not decide, 4 refused as hostile. A *warn* counts with `--fail-on
warn`; an *info* never does. Of an older checkpoint of a run, errors are warnings: its newest one decides. What `verify`
does not look for, and why, is [a decision](../decisions/0005-what-verify-leaves-out.md).
"""


def findings_page() -> str:
    """Return the page as Markdown."""
    lines = [_INTRODUCTION]
    for title, family in FAMILIES.items():
        lines += [f"## {title}", "", *_table(family), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(family: Mapping[str, tuple[str, str]]) -> list[str]:
    lines = ["| code | severity | what it means | why | what to do |", "|---|---|---|---|---|"]
    for code, (cause, remedy) in family.items():
        rule = RULES[code]
        severity = f"error, {int(rule.status.exit_code)}" if rule.severity is Severity.ERROR else rule.severity.value
        lines.append(f"| `{code}` | {severity} | {rule.summary} | {cause} | {remedy} |")
    return lines
