"""The console of stdout."""

from __future__ import annotations

from rich.console import Console


class OutputConsole(Console):
    """A rich console whose reader may leave: rich itself would end the process with 1, which means "failed"."""

    def on_broken_pipe(self) -> None:
        """Let `orz` decide what an output that was cut off means.

        Raises:
            BrokenPipeError: always.
        """
        raise BrokenPipeError
