"""How long `orz ckpt locate` takes over 100,000 files, beside `find` over the same; five seconds are the limit.

python benchmarks/ckpt_locate.py [--files 100000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 5.0
PER_FOLDER = 1000
REPEATS = 5


def main() -> int:
    """Print the medians and their ratio; return 1 beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    num_files = parser.parse_args().files
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        for index in range(num_files):
            if index % PER_FOLDER == 0:
                folder = run / f"logs{index // PER_FOLDER}" / "rollouts"
                folder.mkdir(parents=True)
            (folder / f"sample_{index}.json").touch()
        weights = run / "iter100" / "policy"
        weights.mkdir(parents=True)
        (weights / "model.safetensors").write_bytes(bytes(8))
        ours = median([sys.executable, "-m", "orz_cli", "ckpt", "locate", str(run), "--json"], check=weights)
        find = median(["find", str(run), "-name", "*.safetensors"])
    print(f"orz ckpt locate {ours:.2f} s, find {find:.2f} s, {ours / find:.1f} times; {num_files:,} files, warm")
    return int(ours > LIMIT_S)


def median(command: list[str], *, check: Path | None = None) -> float:
    """Return the median wall time of a command, start of the interpreter included."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - begin)
        if check is not None and [str(check)] != [piece["path"] for piece in json.loads(done.stdout)["pieces"]]:
            raise SystemExit(f"void: the weights were not found\n{done.stdout}")
    return sorted(times)[REPEATS // 2]


if __name__ == "__main__":
    sys.exit(main())
