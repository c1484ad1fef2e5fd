"""What a judging command says: findings, and the one JSON shape they are published in.

`orz doctor`, `orz ckpt` and `orz monitor` all print::

    {"v": 1, "status": "failed", "findings": [{"code", "severity", "message", "remedy"}], ...}

A command adds keys of its own beside these; it never renames them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1
"""The version of the JSON shape."""


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """Something does not work, or will fail."""
    WARN = "warn"
    """Works, but slower, or not everywhere."""
    INFO = "info"
    """Worth knowing."""


class Status(StrEnum):
    """What a judging command concludes."""

    OK = "ok"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused"

    @property
    def exit_code(self) -> ExitCode:
        """Return the exit code that says the same."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Status.OK: ExitCode.OK,
    Status.FAILED: ExitCode.FAILED,
    Status.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
    Status.REFUSED: ExitCode.REFUSED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing found, and what to do about it.

    Example:
        Finding(code="no_compiler", severity=Severity.WARN, message="gcc is not on PATH", remedy="apt-get install gcc")
    """

    code: str
    """Names the kind of finding, in lower_snake_case; stable, so that a script can match it."""
    severity: Severity
    message: str
    """What was found, where, and what was expected."""
    remedy: str = ""
    """What to do next; empty where there is nothing to do."""

    def to_json(self) -> dict[str, str]:
        """Return the finding in the shape of its JSON object."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message,
            "remedy": self.remedy,
        }


def status_of(findings: Iterable[Finding]) -> Status:
    """Conclude from findings alone: failed where one is an error, otherwise ok."""
    return Status.FAILED if any(finding.severity is Severity.ERROR for finding in findings) else Status.OK


def to_json(status: Status, findings: Iterable[Finding], **extra: Any) -> dict[str, Any]:
    """Return the shared JSON object; `extra` keys follow the shared ones."""
    return {"v": VERSION, "status": status.value, "findings": [finding.to_json() for finding in findings], **extra}
