"""Every name that a run emits is registered: readers know its unit and meaning."""

from __future__ import annotations

from collections.abc import Iterable

from orz_monitor.records import PHASES, describe
from orz_train.runlog.errors import UnregisteredMetricError

_ELSEWHERE = {"events": "goes into an event, it depends on the machine", "derived": "is worked out by readers"}


class NameCheck:
    """Finds names that the registry doesn't list, or that don't belong into a step's metrics.

    Args:
        strict: raise; else each name is reported once.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._known: set[str] = set()

    def new_problems(self, *, metrics: Iterable[str], phases: Iterable[str] = ()) -> list[str]:
        """Return a sentence for each name that is wrong and wasn't reported before.

        Raises:
            UnregisteredMetricError: one is wrong, in strict mode.
        """
        names = {name: _problem(name) for name in metrics if name not in self._known}
        names |= {
            f"seconds.{phase}": "is no phase of orz_monitor.records.PHASES"
            for phase in phases
            if phase not in PHASES and f"seconds.{phase}" not in self._known
        }
        self._known |= names.keys()
        problems = [f"{name} {problem}" for name, problem in names.items() if problem]
        if problems and self._strict:
            raise UnregisteredMetricError("; ".join(problems), remedy="register it in orz_monitor.records.registry")
        return problems


def _problem(name: str) -> str:
    spec = describe(name)
    if spec is None:
        return "is no metric of orz_monitor.records.METRICS"
    return _ELSEWHERE.get(spec.source, "")
