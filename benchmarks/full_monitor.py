"""Reproduces what orz monitor promises: rules, alarms, speed, calm on hostile bytes; each writes a page.

    python benchmarks/full_monitor.py [--out FOLDER] [--logs FOLDER]

Ends with exit code 1 where a promise is not kept; the pages say which.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from result_page import RESULTS, ROOT, today

PARTS = ("rules", "alarms", "parse", "tail", "event_files", "hostile")
"""Of benchmarks/monitor_*.py, those that are run."""


def main() -> int:
    """Run them one after the other, so that none disturbs another's clock."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the pages")
    parser.add_argument("--logs", type=Path, help="a folder with logs of real healthy runs, judged with the alarms")
    parser.add_argument("--only", choices=PARTS, action="append", help="one of the parts; may be repeated")
    arguments = parser.parse_args()
    missed = []
    for part in arguments.only or PARTS:
        page = arguments.out.resolve() / today(f"monitor-{part.replace('_', '-')}").name
        command = [sys.executable, f"benchmarks/monitor_{part}.py", "--out", str(page)]
        command += ["--logs", str(arguments.logs.resolve())] if part == "alarms" and arguments.logs else []
        began = time.monotonic()
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            missed.append(part)
        print(f"{part}: {'missed' if part in missed else 'kept'}, after {time.monotonic() - began:.0f} s", flush=True)
    if missed:
        print(f"not kept: {', '.join(missed)}; the pages in {arguments.out} say what")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
