"""What happens when a save fails: ranks end what they write; then stop, go on without it, or try again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from orz_ckpt.errors import CkptError
from orz_ckpt.failing import is_storage
from orz_train.config.checkpoint import Checkpoint
from orz_train.errors import CheckpointError, NotSharedError, OrzError
from orz_train.limits import NO_LIMIT, Limit
from orz_train.ports import MetricSink, Saved

LONGEST_PAUSE_S = 60.0
END_WRITING_S = 3.0
"""How long ranks may go on with what they write once a save has failed that ends the run: then it is removed under
their hands."""
END_WRITING_GOES_ON_S = 300.0
"""The same where the run goes on without that save, or tries again."""
LOOK_EVERY_S = 5.0
"""How often a wait for ranks that write looks whether the processes of the models are well."""


def message_and_remedy(error: OrzError | OSError) -> tuple[str, str]:
    """Return what an error says, and what it says to do: empty where the system raised it."""
    return (error.message, error.remedy) if isinstance(error, OrzError) else (str(error), "")


def by_policy(
    save: Callable[[int], None],
    settings: Checkpoint,
    sink: MetricSink,
    *,
    step: int,
    pause: Callable[[float], None] | None = None,
) -> bool:
    """Save as `checkpoint.on_failure` says.

    Args:
        save: writes one checkpoint whole, or raises and leaves nothing of it that looks committed. It is told how
            many tries are left after this one.
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
            save(attempts - number)
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


def is_of_the_save(error: BaseException, folder: Path) -> bool:
    """Say whether what a save into `folder` raised is for `by_policy` to handle: anything else ends the run."""
    if isinstance(error, CkptError | CheckpointError):
        return True
    return isinstance(error, Exception) and is_storage(error, folder)  # it becomes a StorageError on its way


def end_writing(
    models: Iterable[Saved],
    sink: MetricSink,
    *,
    step: int,
    limit: Limit = NO_LIMIT,
    check: Callable[[], None] | None = None,
) -> None:
    """Wait until no rank writes any more for a save that failed: not for long where that ends the run.

    One model is asked after the other, and each is heard: a rank that has ended says so at once, also when the time is
    up. Of a sink that fails, on the same full disk perhaps, nothing is heard: the failure of the save counts.

    Args:
        models: that were to be saved.
        sink: is told who still writes then.
        step: that was to be saved.
        limit: of a run that ends, for all that it has still to do.
        check: of a run that goes on; looks, while ranks are waited for, whether the models are well, and raises if they
            aren't. None if the run ends.
    """
    ours = Limit(END_WRITING_GOES_ON_S if check is not None else limit.at_most(END_WRITING_S))
    for model in models:
        while still := model.end_writing(ours.at_most(LOOK_EVERY_S)):
            if check is not None:
                check()
            if ours.left():
                continue
            for rank in still:
                with suppress(Exception):
                    sink.event(
                        "warning",
                        step=step,
                        message=f"{rank} step {step}, which is given up: its files are removed all the same",
                        remedy="what comes late the next start of this run removes",
                    )
            break
