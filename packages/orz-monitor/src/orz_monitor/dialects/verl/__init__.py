"""verl's console lines: a step a line, also where a terminal has wrapped it."""

from orz_monitor.dialects.verl.dialect import Verl

__all__ = ["Verl"]
