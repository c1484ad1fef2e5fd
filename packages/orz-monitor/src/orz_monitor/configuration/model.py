"""What a configuration says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orz_cli.errors import UsageError
from orz_cli.findings import Severity


class ConfigurationError(UsageError):
    """A configuration file, a rule's name or a threshold is wrong; no run was judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """What is set for one rule.

    Attributes:
        limits: threshold to value.
        min_points: values without which the rule says nothing; None leaves the rule's own.
        worst: the most severe finding it may make; None leaves the rule's own.
        off: whether it is left out.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    min_points: int | None = None
    worst: Severity | None = None
    off: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignore:
    """Findings that are known, and do not count.

    Attributes:
        rule: the rule that makes them.
        reason: why they do not count; shown with each.
        until: the last day on which they don't; None for as long as the entry stands.
        first_step: only findings that begin here or later.
        last_step: only findings that begin here or earlier.
    """

    rule: str
    reason: str
    until: dt.date | None = None
    first_step: int | None = None
    last_step: int | None = None

    def covers(self, code: str, step: int | None, today: dt.date) -> bool:
        """Tell whether it covers a finding of a rule that begins at a step."""
        if code != self.rule or (self.until is not None and today > self.until):
            return False
        if step is None:
            return self.first_step is None and self.last_step is None
        after = self.first_step is None or step >= self.first_step
        return after and (self.last_step is None or step <= self.last_step)


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """One configuration file.

    Attributes:
        path: the file; None where there is none.
        preset: the kind of run; empty where it is to be recognised.
        overrides: rule to what is set for it.
        ignores: findings that do not count.
    """

    path: Path | None = None
    preset: str = ""
    overrides: Mapping[str, Override] = field(default_factory=dict)
    ignores: tuple[Ignore, ...] = ()


NOTHING_SET: Final = Configuration()
