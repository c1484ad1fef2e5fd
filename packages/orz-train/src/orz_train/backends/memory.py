"""The peak memory of this process."""

from __future__ import annotations

import sys

from orz_train.types import Max, Metric

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None  # type: ignore[assignment]


def peak_memory() -> list[Metric]:
    """Return `memory/peak_bytes` of the process so far, or nothing where the system doesn't tell."""
    if resource is None:
        return []
    unit = 1 if sys.platform == "darwin" else 1024
    return [Metric("memory/peak_bytes", Max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit))]
