"""Save a checkpoint again and again, each time killed one write later. Run by test_storage_kill.py.

Arguments: a run folder that already holds step 1. Prints, per attempt, its number and `killed` or `done`.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage

WRITES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}


def kill_before_write(number: int, below: str) -> None:
    """Let `number` writes below a folder happen, then die as if the power was cut."""
    done = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        writes = event in WRITES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & 3)
        flushes = event == "open" and not writes
        if (writes or flushes) and str(arguments[0]).startswith(below):
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1

    sys.addaudithook(watch)


def save(run: Path) -> None:
    with stage(step_folder(run, 2), attempt="killed") as staged:
        for role in ("policy", "critic"):
            folder = staged.path / role
            folder.mkdir()
            save_file({"w": np.arange(1000, dtype="<f4")}, folder / "model.safetensors")
        staged.commit(step=2, roles={"policy": "policy", "critic": "critic"}, writer="test 1", node="n")


def main() -> None:
    template, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    for number in range(1000):
        run = scratch / f"{number:03d}"
        shutil.copytree(template, run)
        child = os.fork()
        if child == 0:
            kill_before_write(number, str(run))
            save(run)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            print(number, "killed", flush=True)  # noqa: T201
        else:
            print(number, "done" if status == 0 else "failed", flush=True)  # noqa: T201
            return


if __name__ == "__main__":
    main()
