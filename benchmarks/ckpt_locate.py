"""How long `orz ckpt locate` takes over 100,000 files, beside `find` over the same.

python benchmarks/ckpt_locate.py [--files 100000] [--rounds 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from arms import HEAD, ORZ, Arm, take_turns
from result_page import Measured, made_by, table, today, write_measured
from weights import write_weights

LIMIT_S = 5.0
PER_FOLDER = 1000

PAGE = """\
{made}
One piece of a run lies among {files:,} files in folders of {per_folder:,}; the names are in the kernel's cache, as they
are after training wrote them. Start of the interpreter included; {rounds} rounds, taken in turn.

{arms}"""


def main() -> int:
    """Measure and write the page; return 1 where the goal is not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=today("ckpt-locate"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        weights = make_run(run, options.files)
        ours = Arm(name="orz ckpt locate", command=[*ORZ, "locate", run, "--json"])
        find = Arm(name="find", command=["find", run, "-name", "*.safetensors"])
        take_turns([find, ours], options.rounds)
    found = [piece["path"] for piece in json.loads(ours.output)["pieces"]]
    if found != [str(weights)]:
        raise SystemExit(f"void: expected the weights in {weights}, found {found}")
    page = PAGE.format(
        made=made_by(f"python benchmarks/ckpt_locate.py --files {options.files} --rounds {options.rounds}"),
        files=options.files,
        per_folder=PER_FOLDER,
        rounds=options.rounds,
        arms=table(f"{HEAD} | x find", [f"{arm.row} | {arm.least / find.least:.1f}" for arm in (ours, find)]),
    )
    time = Measured(what=f"wall time over {options.files:,} files", value=ours.least, unit="s", most=LIMIT_S)
    return write_measured("Locating weights among many files", page, [time], options.out)


def make_run(run: Path, num_files: int) -> Path:
    """Make a run with so many samples of text, and return the folder of its weights."""
    for index in range(num_files):
        folder = run / f"logs{index // PER_FOLDER}" / "rollouts"
        if index % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"sample_{index}.json").touch()
    weights = run / "iter100" / "policy"
    weights.mkdir(parents=True)
    write_weights(weights / "model.safetensors", 0, shape=(64, 64))
    return weights


if __name__ == "__main__":
    sys.exit(main())
