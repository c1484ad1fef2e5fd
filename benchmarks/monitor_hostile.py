"""Feeds hostile bytes to what reads logs, stores and records, for a minute; nothing may be raised, nothing be slow.

    python benchmarks/monitor_hostile.py [--seconds 60] [--out FILE.md]

Runs `monitor_fuzz.py`, which says what is fed to whom, and needs atheris as it does. The bytes of a find are kept, and
their folder is named.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from result_page import ROOT, Measured, made_by, write_measured

SHARES = {"log": 0.7, "store": 0.2, "records": 0.1}
"""Part of the time by target: most code is that of the dialects."""
FEWEST = 500
"""Inputs of a target in a minute; with fewer, too little was tried to say anything."""
_DONE = re.compile(r"Done (\d+) runs in")
_LAST_LINES = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class Fuzzed:
    """What came of one target.

    Attributes:
        num_inputs: how many were read; 0 where the fuzzer did not come to its end.
        is_found: whether it stopped at one.
        said: its last lines.
    """

    num_inputs: int
    is_found: bool
    said: str


def fuzzed(target: str, seconds: float, folder: Path) -> Fuzzed:
    """Fuzz a target for so long; a find leaves its bytes in the folder."""
    command = [sys.executable, "benchmarks/monitor_fuzz.py", target, f"-max_total_time={max(round(seconds), 1)}"]
    command += [f"-artifact_prefix={folder}/{target}-"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, errors="replace")
    said = done.stdout + done.stderr
    runs = _DONE.search(said)
    return Fuzzed(
        num_inputs=int(runs[1]) if runs else 0,
        is_found=done.returncode != 0,
        said="\n".join(said.splitlines()[-_LAST_LINES:]),
    )


def main() -> int:
    """Fuzz one target after the other and write the page; return 1 where something was found or too little tried."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--out", type=Path, help="a Markdown file; by default stdout")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    measured = []
    for target, share in SHARES.items():
        result = fuzzed(target, share * arguments.seconds, folder)
        least = FEWEST * share * min(arguments.seconds / 60, 1)
        measured += [
            Measured(what=f"{target}: read", value=result.num_inputs, unit="inputs", least=least, digits=0),
            Measured(what=f"{target}: raised, or too slow", value=result.is_found, unit="inputs", most=0, digits=0),
        ]
        if result.is_found:
            sys.stderr.write(f"{target}: what it was made of is in {folder}\n{result.said}\n")
    return write_measured(
        "What hostile bytes do to orz monitor",
        made_by("python benchmarks/monitor_hostile.py", "atheris")
        + f"\n\nlibFuzzer's inputs over {arguments.seconds:g} seconds, seeded with the logs of the dialects' tests. "
        "The first find of a target ends it.",
        measured,
        arguments.out,
    )


if __name__ == "__main__":
    sys.exit(main())
