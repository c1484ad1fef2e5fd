"""An error at the end of a log that is still written: the program may have handled it, and the next step tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.rules.step_times import by_clock
from orz_monitor.run import Run, State

_STEPS: Final = 2
"""For as long as so many usual steps take, a further step is waited for."""
_SHORTEST_S: Final = 60.0
_LONGEST_S: Final = 1800.0
CODES: Final = frozenset({"crash", "killed"})
"""Rules whose findings are no longer made, or no errors, once a further step comes."""


@dataclass(kw_only=True, slots=True)
class DoubtfulEnd:
    """How long an end has stood that only a line of a log tells of.

    A trainer's own last word, as in our records, is never in doubt.
    """

    _end: object = None
    _since: float = 0.0

    def left_s(self, run: Run, now: float) -> float:
        """Return for how many seconds more a further step is waited for; 0 if the end is none, or certain.

        Args:
            run: as it is now.
            now: seconds of a clock that never goes back.
        """
        end = _end_by_log(run)
        if end is None:
            self._end = None
            return 0.0
        if end != self._end:
            self._end, self._since = end, now
        stood = max(now - self._since, _age_s(run))
        return max(patience_s(run) - stood, 0.0)


def patience_s(run: Run) -> float:
    """Return for how many seconds a further step of a run is waited for."""
    taken = by_clock(run).values
    usual = float(np.median(taken)) if len(taken) else 0.0
    return min(max(_STEPS * usual, _SHORTEST_S), _LONGEST_S)


def _end_by_log(run: Run) -> object:
    """Return which line of a log ended a run; None if it has not ended, or said so itself."""
    if run.state not in {State.FAILED, State.INTERRUPTED}:
        return None
    event = next((event for event in reversed(run.events) if event.event in {"error", "interrupted"}), None)
    if event is not None and "kind" not in event.data:
        return None
    if event is not None:
        return event.data.get("file"), event.data.get("line")
    return (run.traceback.path, run.traceback.line) if run.traceback is not None else None


def _age_s(run: Run) -> float:
    """Return for how long nothing was written to the files of a run; 0 where that is not known."""
    paths = [*run.files, *([run.traceback.path] if run.traceback is not None else [])]
    try:
        return run.now - max(path.stat().st_mtime for path in paths)
    except (OSError, ValueError):  # a file that is gone, an address, or none
        return 0.0
