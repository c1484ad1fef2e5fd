"""What has been told: kept in a file, so that a watch that is started again tells nothing twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.addresses import is_url, real
from orz_monitor.findings import Finding, rank
from orz_monitor.publishing import publish

_VERSION: Final = 1
_MOST: Final = 10_000
"""Findings remembered; the oldest are forgotten."""


@dataclass(kw_only=True, slots=True)
class Told:
    """One episode that was told.

    Attributes:
        code: the rule.
        severity: the worst that was told.
        first_step: where the episode begins; None where it has no step.
        last_step: where it ended when it was last seen.
    """

    code: str
    severity: str
    first_step: int | None
    last_step: int | None

    def covers(self, finding: Finding) -> bool:
        """Tell whether a finding is this episode, as far as it has gone, and no worse than what was told."""
        if self.code != finding.code or rank(finding.severity) < rank(Severity(self.severity)):
            return False
        return self.is_about(finding)

    def is_about(self, finding: Finding) -> bool:
        """Tell whether a finding of the same rule shares steps with this episode."""
        if self.first_step is None or finding.first_step is None:
            return self.first_step == finding.first_step
        ends = self.last_step if self.last_step is not None else self.first_step
        last = finding.last_step if finding.last_step is not None else finding.first_step
        return finding.first_step <= ends + 1 and self.first_step <= last


@dataclass(kw_only=True, slots=True)
class Memory:
    """The episodes that were told of one run.

    Attributes:
        file: where they are kept.
        told: the episodes, oldest first.
    """

    file: Path
    told: list[Told] = field(default_factory=list)

    @classmethod
    def load(cls, file: Path) -> Memory:
        """Read what was told; a file that is not there, or can't be read, is an empty memory."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            told = [_checked(item) for item in content["told"]]
        except (OSError, ValueError, TypeError, KeyError):
            return cls(file=file)
        return cls(file=file, told=told)

    def knows(self, finding: Finding) -> bool:
        """Tell whether a finding was told; an episode that goes on is the same one."""
        for told in self.told:
            if told.covers(finding):
                if told.last_step is not None and finding.last_step is not None:
                    told.last_step = max(told.last_step, finding.last_step)
                return True
        return False

    def add(self, finding: Finding) -> None:
        """Remember that a finding was told.

        Raises:
            UsageError: the file can't be written.
        """
        self.told = [told for told in self.told if told.code != finding.code or not told.is_about(finding)]
        entry = Told(
            code=finding.code,
            severity=str(finding.severity),
            first_step=finding.first_step,
            last_step=finding.last_step,
        )
        self.told = [*self.told, entry][-_MOST:]
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            UsageError: it can't be written.
        """
        text = json.dumps({"v": _VERSION, "told": [asdict(told) for told in self.told]}) + "\n"
        publish(self.file, lambda path: _write(path, text))


def default_file(path: Path, notify: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return where a watch of `path` that notifies `notify` keeps its memory: in the user's folder of states."""
    base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    place = path if is_url(path) else real(path)
    identity = hashlib.sha256(f"{place}\0{notify}".encode()).hexdigest()[:24]
    return Path(base) / "orz-monitor" / "watch" / f"{identity}.json"


def _checked(item: object) -> Told:
    """Return an entry of the file, if it is one."""
    if not isinstance(item, dict):
        raise TypeError("an episode is an object")
    first, last = (None if item[key] is None else int(item[key]) for key in ("first_step", "last_step"))
    severity = str(Severity(str(item["severity"])))
    return Told(code=str(item["code"]), severity=severity, first_step=first, last_step=last)


def _write(path: Path, text: str) -> None:
    """Write the file's text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
