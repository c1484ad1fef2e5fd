"""`orz` as a process of its own, from its first import to its end: what `orz` and `python -m orz_cli` run.

Both take a good part of a short command's time. So few collections of garbage are made while modules load, and a
command that leaves nothing to be done at the end may ask that nothing be taken apart there.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import Final, NoReturn

from orz_cli.exits import ExitCode
from orz_cli.garbage import few_collections

_at_once: Final = threading.Event()


def run() -> int:
    """Run `orz` with the arguments of this process, and return its exit code."""
    with few_collections():
        from orz_cli.main import main  # noqa: PLC0415  what it imports is what takes so long
    code = main()
    if _at_once.is_set() and "torch" not in sys.modules:
        _leave(code)
    return code


def end_at_once() -> None:
    """Let this process end without taking apart what it made: the system takes all memory back at once.

    Threads are waited for, and what is registered with `atexit` is done, as ever. Not for what relies on finalizers at
    the end of the process, and not done where torch is: libraries that it loads count then what was not given back,
    and complain.
    """
    _at_once.set()


def _leave(code: int) -> NoReturn:
    """Do what `sys.exit` does, and leave before Python would clear its modules."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  as multiprocessing ends its processes
        atexit._run_exitfuncs()  # noqa: SLF001  nothing else runs them before the end
    except KeyboardInterrupt:  # who waits no longer for what is still done has the answer already
        code = code or ExitCode.INTERRUPTED
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
