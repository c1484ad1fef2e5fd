"""Read and write as many bytes as a merge does, past the page cache, and nothing else: the time that a disk takes.

    python benchmarks/bare_copy.py CHECKPOINT OUT READ WRITTEN

READ bytes are read from the beginnings of the optimizers' files, and WRITTEN bytes are written. What is written has no
meaning.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orz_ckpt.tensors.buffers import ALIGNMENT, aligned

CHUNK = 4 * 1024 * 1024
THREADS = 4


def main() -> None:
    """Copy; the file is on the disk at the end."""
    source, out, read, written = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    files = [os.open(path, os.O_RDONLY | os.O_DIRECT) for path in sorted(source.rglob("*optim_states.pt"))]
    spans = [(file, offset) for offset in range(0, read // len(files), CHUNK) for file in files]
    cuts = [written * number // len(spans) // ALIGNMENT * ALIGNMENT for number in range(len(spans) + 1)]
    target = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    os.ftruncate(target, written)
    own = threading.local()

    def copy(number: int) -> None:
        if not hasattr(own, "buffer"):
            own.buffer = aligned(CHUNK)
        file, offset = spans[number]
        os.preadv(file, [own.buffer], offset)
        os.pwrite(target, own.buffer[: cuts[number + 1] - cuts[number]], cuts[number])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(copy, range(len(spans))))
    os.fsync(target)


if __name__ == "__main__":
    main()
