"""Read torch files within limits that the system keeps. Run by test_torch_limits.py.

Arguments: the bytes of address space that the process may take in all, then files. Prints a line for each: the type of
the error, or `read`.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from orz_ckpt.errors import CkptError
from orz_ckpt.formats.torch_file import load

SECONDS = 60


def main() -> None:
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    for name in sys.argv[2:]:
        try:
            load(Path(name))
        except CkptError as error:
            print(type(error).__name__, flush=True)  # noqa: T201  the test reads it
        else:
            print("read", flush=True)  # noqa: T201  likewise


if __name__ == "__main__":
    main()
