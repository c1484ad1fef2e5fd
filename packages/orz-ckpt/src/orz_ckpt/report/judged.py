"""What every format of a report needs to know of what a command found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orz_ckpt.findings import conclude
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_ckpt.findings import CkptFinding


class Judged(Protocol):
    """What a command judged: `findings.Report` is one."""

    @property
    def command(self) -> str:
        """What was run, as it stands behind `orz ckpt`: `verify full`."""

    @property
    def path(self) -> str:
        """What was judged."""

    @property
    def kind(self) -> str:
        """What that is."""

    @property
    def findings(self) -> Sequence[CkptFinding]:
        """All of them."""

    @property
    def checked(self) -> Sequence[str]:
        """The files that were looked at, where the command lists them."""

    @property
    def seconds(self) -> float:
        """How long it took."""

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a command judged that has a result of its own kind."""

    command: str
    path: str
    findings: Sequence[CkptFinding]
    kind: str = "run"
    checked: Sequence[str] = ()
    seconds: float = 0.0

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings; `fail_on` WARN counts warnings, too."""
        return conclude(self.findings, fail_on)
