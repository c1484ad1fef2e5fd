"""Time limits for several steps together: each gets what the ones before it have left."""

from __future__ import annotations

from time import monotonic


class Limit:
    """A time limit that begins now.

    Args:
        seconds: from now; None never passes.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = None if seconds is None else monotonic() + seconds

    def left(self) -> float | None:
        """Return the seconds left, at least 0; None if there is no limit."""
        return None if self._end is None else max(0.0, self._end - monotonic())

    def at_most(self, seconds: float) -> float:
        """Return the seconds left, but no more than these."""
        left = self.left()
        return seconds if left is None else min(left, seconds)


NO_LIMIT = Limit()
