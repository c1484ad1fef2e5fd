"""TensorBoard files: the numbers of `metrics.jsonl` once more, for those who like them there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from orz_monitor.records import StepRecord
from orz_train.errors import BackendMissingError
from orz_train.runlog.errors import LogWriteError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLog:
    """Scalars by metric name, phases as `seconds/<phase>`, and the throughput that follows from both.

    The import takes seconds, so it happens when the first scalar does.

    Args:
        folder: of the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._purge_step: int | None = None

    def begin_after(self, step: int) -> None:
        """Make TensorBoard forget what an earlier attempt wrote beyond `step`; call it before the first scalar."""
        self._purge_step = step + 1

    def write(self, record: StepRecord) -> None:
        """Add the scalars of one step.

        Raises:
            LogWriteError: the files can't be written.
        """
        scalars = dict(record.metrics) | {f"seconds/{phase}": s for phase, s in record.seconds.items()}
        rate = tokens_per_second(record)
        if rate is not None:
            scalars["tokens/per_second"] = rate
        self.scalars(scalars, step=record.step, time=record.time)

    def scalars(self, values: dict[str, float], *, step: int, time: float) -> None:
        """Add scalars at a step.

        Raises:
            LogWriteError: the files can't be written.
        """
        try:
            writer = self._opened()
            for name, value in values.items():
                writer.add_scalar(name, value, global_step=step, walltime=time)
            writer.flush()
        except OSError as error:
            raise LogWriteError.of(self._folder, error) from error

    def close(self) -> None:
        """Write out what is left.

        Raises:
            LogWriteError: the files can't be written.
        """
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            raise LogWriteError.of(self._folder, error) from error

    def _opened(self) -> SummaryWriter:
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  seconds, and only if wanted
            except ImportError as error:
                raise BackendMissingError(
                    f"logging.tensorboard is true, but TensorBoard can't be imported: {error}",
                    remedy="python -m pip install tensorboard, or set logging.tensorboard=false",
                ) from error
            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge_step)
        return self._writer


def tokens_per_second(record: StepRecord) -> float | None:
    """Divide the step's trained tokens by its seconds; None where one of them is missing."""
    tokens, seconds = record.metrics.get("tokens/trained"), record.seconds.get("total")
    if tokens is None or not seconds or not math.isfinite(seconds):
        return None
    return tokens / seconds
