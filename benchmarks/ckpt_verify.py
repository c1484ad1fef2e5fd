"""Time `orz ckpt verify` against `sha256sum` and `cat` on the same bytes, side by side in one run.

Usage: python benchmarks/ckpt_verify.py [GB] [ROUNDS]

Makes one safetensors file of BF16 weights in a temporary folder, reads it once so that all arms find it in
the page cache, then runs the arms in turn. Prints medians and their ratio to `cat`, the floor.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orz_ckpt.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

MATRIX = (4096, 4096)


def write_weights(path: Path, nbytes: int) -> None:
    """Write about `nbytes` of BF16 matrices with random, finite numbers."""
    random = np.random.default_rng(0)
    one = 2 * MATRIX[0] * MATRIX[1]
    count = max(1, nbytes // one)
    header = {
        f"layers.{number}.weight": {
            "dtype": "BF16",
            "shape": list(MATRIX),
            "data_offsets": [number * one, (number + 1) * one],
        }
        for number in range(count)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _ in range(count):
            stream.write((random.integers(0, 2**16, MATRIX, dtype="<u2") & 0xBFFF).tobytes())


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that `run` takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def command(*words: str | Path) -> Callable[[], object]:
    """Return a function that runs a program without its output."""
    return lambda: subprocess.run(words, stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    """Time all arms and print the table."""
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5  # noqa: PLR2004
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_weights(path, int(gigabytes * 1e9))
        arms: dict[str, Callable[[], object]] = {
            "cat": command("cat", path),
            "verify, in Python": lambda: verify(path),
            "orz ckpt verify": command(sys.executable, "-m", "orz_cli", "ckpt", "verify", path),
            "sha256sum": command("sha256sum", path),
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        command("cat", path)()
        for _ in range(rounds):
            for name, run in arms.items():
                seconds[name].append(timed(run))
        size = path.stat().st_size
        floor = statistics.median(seconds["cat"])
        print(f"{size / 1e9:.2f} GB, median of {rounds}")
        print(f"{'arm':<20}{'s':>8}{'min':>8}{'max':>8}{'GB/s':>8}{'x cat':>8}")
        for name, times in seconds.items():
            median = statistics.median(times)
            row = f"{median:8.3f}{min(times):8.3f}{max(times):8.3f}{size / 1e9 / median:8.2f}{median / floor:8.1f}"
            print(f"{name:<20}{row}")


if __name__ == "__main__":
    main()
