"""What runs in a reward worker: a process that may be killed at any moment and is back in another."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Awaitable
from pathlib import Path
from typing import IO, Any

from orz_train.errors import ConfigError
from orz_train.rewards.base import RewardFunction, error_score, to_score
from orz_train.rewards.registry import load_reward
from orz_train.types import Score

_OWN_FOLDER = str(Path(__file__).parent)


class _Worker:
    """The reward function of this process, or why there is none."""

    def __init__(self, function: str, deadline_s: float, null: IO[str]) -> None:
        self.deadline_s = deadline_s
        self.null = null
        self.function: RewardFunction | None = None
        self.load_error = ""
        try:
            self.function = load_reward(function)
        except Exception as error:  # noqa: BLE001  # told with each score: a worker that dies at its start can't
            self.load_error = str(error) if isinstance(error, ConfigError) else _describe(error)
        self._loop: asyncio.Runner | None = None

    def score(self, task: bytes) -> Score:
        if self.function is None:
            return error_score(self.load_error)
        # Its thread is written in C: it ends an orphan that is stuck in one long operation, where no Python runs.
        faulthandler.dump_traceback_later(self.deadline_s, exit=True, file=self.null)
        try:
            prompt, rollout = pickle.loads(task)  # noqa: S301  # made by the pool, in the parent
            value: Any = self.function(prompt, rollout)
            return to_score(self._wait(value) if inspect.isawaitable(value) else value)
        except BaseException as error:  # noqa: BLE001  # a user's code may raise anything, SystemExit too
            return error_score(_describe(error))
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _wait(self, value: Awaitable[object]) -> object:
        """Run an async reward function to its end, all on one loop, so that it can keep a connection open."""

        async def ended() -> object:
            return await value

        self._loop = self._loop or asyncio.Runner()
        return self._loop.run(ended())


_worker: _Worker | None = None


def start(function: str, folder: str, deadline_s: float) -> None:
    """Prepare this process: import the reward function, send what it prints nowhere.

    Args:
        function: a name for `load_reward`; imported here, so that imports don't count as time of a response.
        folder: the parent's present folder, where the function's module and its files are looked for.
        deadline_s: seconds after which a call ends this process, if the pool hasn't done so before.
    """
    global _worker  # noqa: PLW0603  # the state of a process of its own
    os.chdir(folder)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a kill must not wait for Python
    null = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # open as long as the process lives
    for descriptor in (1, 2):
        os.dup2(null.fileno(), descriptor)
    threading.Thread(target=_die_with_parent, name="orz-die-with-parent", daemon=True).start()
    _worker = _Worker(function, deadline_s, null)


def score(task: bytes) -> Score:
    """Score one pickled (prompt, rollout); whatever the reward function does, short of ending the process."""
    assert _worker is not None, "the pool starts workers with start()"  # noqa: S101  # our own invariant
    return _worker.score(task)


def _die_with_parent() -> None:
    """End this process when its parent ends, even by SIGKILL and in the middle of a response."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _describe(error: BaseException) -> str:
    """Return the error with the innermost line of code outside this package."""
    text = "".join(traceback.format_exception_only(error)).strip()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OWN_FOLDER)]
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text
