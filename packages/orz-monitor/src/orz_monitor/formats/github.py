"""A check as GitHub workflow commands, which become annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.formats.document import Checked
from orz_monitor.printable import printable

_LEVELS: Final = {Severity.ERROR: "error", Severity.WARN: "warning", Severity.INFO: "notice"}


def as_github(checks: Sequence[Checked], fail_on: Severity = Severity.ERROR) -> str:
    """Return one workflow command a line, for each finding and each unreadable path."""
    lines = []
    for check in checks:
        if check.verdict is not None:
            for finding in check.verdict.findings:
                place = {"file": str(finding.file), "line": finding.line, "title": finding.title}
                text = finding.message + (f"\nTry: {finding.remedy}" if finding.remedy else "")
                lines.append(_command(_LEVELS[finding.severity], place, text))
        if reason := check.reason(fail_on):
            lines.append(_command("error", {"file": str(check.path), "title": "Could not decide"}, reason))
    return "\n".join(lines)


def _command(level: str, properties: Mapping[str, object], text: str) -> str:
    """Return one command with its values escaped as the runner expects."""
    shown = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items() if value is not None)
    return f"::{level} {shown}::{_data(text)}"


def _data(text: str) -> str:
    """Escape a message."""
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a property."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
