"""How far a command is, on a terminal: bytes and bytes a second."""
# ruff: noqa: PLC0415  what draws a bar takes longer to load than a small checkpoint to read

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orz_ckpt.watch import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from orz_ckpt import watch


class Bar:
    """A progress bar that several threads advance."""

    def __init__(self, progress: Progress, doing: str) -> None:
        self._progress = progress
        self._task = progress.add_task(doing, total=0)
        self._total = 0
        self._lock = threading.Lock()

    def add_total(self, nbytes: int) -> None:
        """Expect `nbytes` more."""
        with self._lock:
            self._total += nbytes
            self._progress.update(self._task, total=self._total)

    def advance(self, nbytes: int) -> None:
        """Count `nbytes` as done."""
        self._progress.advance(self._task, nbytes)


@contextmanager
def shown_progress(doing: str = "reading") -> Iterator[watch.Progress]:
    """Yield a bar on stderr that goes away at the end; where stderr is no terminal, yield silence.

    Args:
        doing: what the bar says it is about.
    """
    if not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield Silent()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, doing)
