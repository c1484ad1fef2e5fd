"""Save with a run's store, killed at random writes. Run by test_store_kill.py.

Arguments: a run folder with step 1, a folder for copies, `now` or `background`, how many. Prints the number of writes
of a save that nobody kills, then a line per copy: its number and the write before which it was killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from pathlib import Path

import torch

from conftest import Ranks, make_config
from orz_train.checkpoint import RunCheckpoints
from orz_train.testing import MemorySink

FOLDER_AT = {"os.rename": 2, "os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.truncate": None}
"""Of what changes a folder, the argument that is the open folder which a relative name is in."""


class Counter:
    """Counts what changes a folder; kills the process before one of them."""

    def __init__(self, below: str, kill_before: int) -> None:
        self.below = below
        self.kill_before = kill_before
        self.done = 0
        sys.addaudithook(self.watch)

    def watch(self, event: str, arguments: tuple[object, ...]) -> None:
        """Look at one event of the interpreter."""
        writes = event in FOLDER_AT or (event == "open" and isinstance(arguments[2], int))
        if writes and self.path(event, arguments).startswith(self.below):
            if self.done == self.kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            self.done += 1

    @staticmethod
    def path(event: str, arguments: tuple[object, ...]) -> str:
        """Return what is written to; what deletes a whole tree names a file in an open folder."""
        at = FOLDER_AT.get(event)
        folder = arguments[at] if at is not None else -1
        written = Path(str(arguments[0]))
        return str(written if folder == -1 else Path(f"/proc/self/fd/{folder}").readlink() / written)


def save(run: Path, *, background: bool) -> None:
    """Save step 2, over what an earlier run left of it."""
    model = Ranks()
    model.value = 2.0
    store = RunCheckpoints(run, {"policy": model}, make_config(asynchronous=background, keep=1), MemorySink())
    with store as saves:
        saves.save(2, skipped_in_a_row={})


def main(template: Path, scratch: Path, way: str, count: int) -> None:
    """Kill `count` saves."""
    torch.set_num_threads(1)
    background = way == "background"
    shutil.copytree(template, scratch / "whole")
    read, write = os.pipe()
    if os.fork() == 0:
        counter = Counter(str(scratch / "whole"), -1)
        save(scratch / "whole", background=background)
        os.write(write, str(counter.done).encode())
        os._exit(0)
    os.wait()
    total = int(os.read(read, 20))
    print(total, flush=True)  # noqa: T201  the answer
    for number in range(count):
        run, kill_before = scratch / f"{number:03d}", random.Random(number).randrange(total)  # noqa: S311  no secret
        shutil.copytree(template, run)
        if os.fork() == 0:
            Counter(str(run), kill_before)
            save(run, background=background)
            os._exit(0)
        _, status = os.wait()
        print(number, kill_before if os.WIFSIGNALED(status) else "survived", flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
