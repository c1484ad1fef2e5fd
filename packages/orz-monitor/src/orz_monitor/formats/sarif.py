"""A check as SARIF 2.1.0, which code hosts show beside the files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from orz_cli.findings import Severity
from orz_monitor import __version__
from orz_monitor.addresses import is_url
from orz_monitor.engine import Verdict
from orz_monitor.findings import Finding
from orz_monitor.formats.document import Checked
from orz_monitor.rules import RULES

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Final = {Severity.ERROR: "error", Severity.WARN: "warning", Severity.INFO: "note"}
_BRACKET: Final = re.compile(r"(\\*)([\[\]])")
"""With the backslashes before it, which would undo its own."""
_OF_URLS: Final = ":/?#[]@!$&'()*+,;=%"


def as_sarif(checks: Sequence[Checked], fail_on: Severity = Severity.ERROR) -> str:
    """Return one SARIF run with a result for each finding, and a notification for each unreadable path."""
    results = [
        _result(check.verdict, finding, list(_titles(checks)))
        for check in checks
        if check.verdict is not None
        for finding in check.verdict.findings
    ]
    notifications = [
        {"level": "error", "message": {"text": _plain(reason)}, "locations": [_location(check.path, None)]}
        for check in checks
        if (reason := check.reason(fail_on))
    ]
    titles = _titles(checks)
    driver = {
        "name": "orz monitor check",
        "version": __version__,
        "rules": [{"id": code, "shortDescription": {"text": title}} for code, title in titles.items()],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": not notifications, "toolExecutionNotifications": notifications}],
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _titles(checks: Sequence[Checked]) -> dict[str, str]:
    """Return the titles of our rules and of others that were applied, by code."""
    applied = (rule for check in checks if check.verdict is not None for rule in check.verdict.rules)
    return {rule.code: rule.title for rule in (*RULES, *applied)}


def _result(verdict: Verdict, finding: Finding, codes: list[str]) -> dict[str, object]:
    """Return one result; its fingerprint stays as the episode goes on."""
    text = finding.message + (f"\nTry: {finding.remedy}" if finding.remedy else "")
    identity = f"{finding.code}:{verdict.run.name}:{finding.first_step}"
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": _LEVELS[finding.severity],
        "message": {"text": _plain(text)},
        "locations": [_location(finding.file or verdict.run.path, finding.line)],
        "partialFingerprints": {"orzMonitor/v1": hashlib.sha256(identity.encode()).hexdigest()[:32]},
    }


def _plain(text: str) -> str:
    """Escape brackets, which would make a link of `[text](target)`: SARIF 2.1.0, section 3.11.6."""
    return _BRACKET.sub(lambda found: f"{found[1] * 2}\\{found[2]}", text)


def _location(path: Path, line: int | None) -> dict[str, object]:
    """Return a place in a file: a relative path as a relative reference, an absolute one as a URI, a URL as it is."""
    local = path.as_uri() if path.is_absolute() else quote(path.as_posix())
    uri = quote(str(path), safe=_OF_URLS) if is_url(path) else local
    place: dict[str, object] = {"artifactLocation": {"uri": uri}}
    if line is not None:
        place["region"] = {"startLine": line}
    return {"physicalLocation": place}
