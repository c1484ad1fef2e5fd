"""A SARIF 2.1.0 log, as code scanners exchange it.

Format: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from orz_ckpt import __version__
from orz_ckpt.findings import RULES
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.report.judged import Judged

_LEVELS: Final = {Severity.ERROR: "error", Severity.WARN: "warning", Severity.INFO: "note"}


def to_sarif(judged: Judged, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
    """Return the log as a JSON object."""
    codes = list(dict.fromkeys(entry.code for entry in judged.findings))
    rules = [
        {
            "id": code,
            "shortDescription": {"text": RULES[code].summary},
            "defaultConfiguration": {"level": _LEVELS[RULES[code].severity]},
        }
        for code in codes
    ]
    status = judged.status(fail_on)
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "orz-ckpt", "version": __version__, "rules": rules}},
                "invocations": [{"executionSuccessful": True, "exitCode": int(status.exit_code)}],
                "properties": {"status": status.value, "path": judged.path},
                "results": [_result(entry, codes.index(entry.code)) for entry in judged.findings],
            }
        ],
    }


def _result(entry: CkptFinding, rule_index: int) -> dict[str, Any]:
    text = f"{entry.message}\n-> {entry.remedy}" if entry.remedy else entry.message
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": _uri(entry.path)}}}
    if entry.tensor:
        location["logicalLocations"] = [{"name": entry.tensor, "kind": "member"}]
    return {
        "ruleId": entry.code,
        "ruleIndex": rule_index,
        "level": _LEVELS[entry.severity],
        "message": {"text": text},
        "locations": [location],
    }


def _uri(path: str) -> str:
    posix = Path(path).as_posix()
    return quote(posix, safe="/", errors="surrogateescape") if not Path(path).is_absolute() else _file_uri(posix)


def _file_uri(posix: str) -> str:
    return f"file:///{quote(posix.lstrip('/'), safe='/:', errors='surrogateescape')}"
