"""What a policy rank has to send its weights with, if it sends them itself."""

from __future__ import annotations

from typing import Protocol


class WeightSender(Protocol):
    """One rank's end of a connection to all engines."""

    def send(self, version: int) -> None:
        """Bring the present weights to all engines, as `version`; on all ranks at once."""
        ...
