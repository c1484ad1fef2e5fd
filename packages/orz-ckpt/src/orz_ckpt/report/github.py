"""Annotations of a GitHub Actions log: one line a finding.

Format: https://docs.github.com/actions/reference/workflow-commands-for-github-actions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.report.words import plain
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from orz_ckpt.report.judged import Judged

_COMMANDS: Final = {Severity.ERROR: "error", Severity.WARN: "warning", Severity.INFO: "notice"}


def to_github(judged: Judged, fail_on: Severity = Severity.ERROR) -> str:
    """Return the workflow commands, then one plain line with the verdict."""
    lines = []
    for entry in judged.findings:
        text = f"{entry.message}\n-> {entry.remedy}" if entry.remedy else entry.message
        title = _property(f"orz ckpt: {entry.code}")
        lines.append(f"::{_COMMANDS[entry.severity]} file={_property(entry.path)},title={title}::{_data(text)}")
    lines.append(f"{judged.status(fail_on).value} {plain(judged.path)}")
    return "\n".join(lines) + "\n"


def _data(text: str) -> str:
    lines = (plain(line).replace("%", "%25") for line in text.split("\n"))
    return "%0A".join(lines)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
