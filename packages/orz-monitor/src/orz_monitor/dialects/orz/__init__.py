"""ORZ's console: bars of values, and what a training episode says."""

from orz_monitor.dialects.orz.dialect import Orz

__all__ = ["Orz"]
