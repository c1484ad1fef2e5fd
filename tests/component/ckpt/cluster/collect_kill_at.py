"""Collect again and again, each time killed one write later, and once more to the end. Run by test_collect_resume.py.

Arguments: a scratch folder, then the runs. Prints, per attempt, its number and what a reader sees right after the kill:
`nothing`, `uncommitted`, `whole` or `broken`; then what the next collection makes of it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Here
from orz_ckpt.inventory import step_folder
from orz_ckpt.verify import verify

WRITES = {"os.rename", "os.mkdir", "os.link", "os.remove", "os.rmdir", "os.truncate"}


def kill_before_write(number: int, below: str) -> None:
    """Let `number` writes below a folder happen, then die as if the power was cut."""
    done = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        writes = event in WRITES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & 3)
        if writes and str(arguments[0]).startswith(below):
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1

    sys.addaudithook(watch)


def seen(out: Path) -> str:
    """Return what a reader sees."""
    step = step_folder(out, 50)
    if not step.exists():
        return "nothing"
    if not (step / "manifest.json").exists():
        return "uncommitted"
    return "broken" if verify(step).status().exit_code else "whole"


def main() -> None:
    scratch, runs = Path(sys.argv[1]), sys.argv[2:]
    for number in range(1000):
        out = scratch / f"{number:03d}"
        child = os.fork()
        if child == 0:
            try:
                kill_before_write(number, str(out))
                collect(Here(), runs, out)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        between = seen(out)
        collect(Here(), runs, out)
        print(number, between, seen(out), flush=True)  # noqa: T201
        if not os.WIFSIGNALED(status):
            return


if __name__ == "__main__":
    main()
