"""What happens when a save fails: ranks end what they write; then stop, go on without it, or try again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from orz_ckpt.errors import CkptError
from orz_train.config.checkpoint import Checkpoint
from orz_train.errors import CheckpointError, NotSharedError, OrzError
from orz_train.ports import MetricSink, Saved

LONGEST_PAUSE_S = 60.0
END_WRITING_S = 5.0
"""How long ranks may go on with what they write once the save has failed: then it is removed under their hands."""


def message_and_remedy(error: OrzError | OSError) -> tuple[str, str]:
    """Return what an error says, and what it says to do: empty where the system raised it."""
    return (error.message, error.remedy) if isinstance(error, OrzError) else (str(error), "")


def by_policy(
    save: Callable[[], None],
    settings: Checkpoint,
    sink: MetricSink,
    *,
    step: int,
    pause: Callable[[float], None] | None = None,
) -> bool:
    """Save as `checkpoint.on_failure` says.

    Args:
        save: writes one checkpoint whole, or raises and leaves nothing of it that looks committed.
        settings: of checkpoints.
        sink: is told of every failure that doesn't end the run.
        step: that is saved.
        pause: waits so many seconds before another try; what it raises ends the tries. By default it sleeps.

    Returns:
        Whether it was saved.

    Raises:
        CkptError: the disk failed, and the run is to stop.
        CheckpointError: so did a look at the disks, or the nodes have no common one.
    """
    attempts = settings.retries + 1 if settings.on_failure == "retry" else 1
    for number in range(1, attempts + 1):
        try:
            save()
        except (CkptError, CheckpointError) as error:
            final = number == attempts or isinstance(error, NotSharedError)  # another try would meet the same disks
            if final and settings.on_failure != "warn":
                raise
            seconds = min(2.0 ** (number - 1), LONGEST_PAUSE_S)
            again = f"trying again in {seconds:g} s ({number} of {attempts - 1})"
            so = "the run goes on without it" if final else again
            sink.event("warning", step=step, message=f"{error.message}; {so}", remedy=error.remedy)
            if final:
                return False
            (pause or time.sleep)(seconds)
        else:
            return True
    raise AssertionError  # the last attempt returns or raises


def end_writing(models: Iterable[Saved], sink: MetricSink, *, step: int) -> None:
    """Wait until no rank writes any more for a save that failed, for as long as the end of a run may take.

    Args:
        models: that were to be saved.
        sink: is told who still writes then.
        step: that was to be saved.
    """
    end = time.monotonic() + END_WRITING_S
    for model in models:
        for name in model.end_writing(max(0.0, end - time.monotonic())):
            sink.event(
                "warning",
                step=step,
                message=f"{name} still writes step {step}, which is given up: its files are removed all the same",
                remedy="what comes late the next start of this run removes",
            )
