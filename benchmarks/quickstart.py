"""Runs the quickstart recipes on three seeds each and writes the table of what they learned.

    python benchmarks/quickstart.py [--recipes quickstart quickstart-grpo] [--seeds 1 2 3] [--out FILE] [KEY=VALUE ...]

Every run is the command a user types. Beside the reward and the held-out accuracy stand the largest difference of any
step between the log-probs of sampler and trainer, the wall-clock seconds of the whole command, and the exit codes of
`orz ckpt verify` and `orz monitor check` on what it left.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from result_page import commit, machine, today

from orz_monitor.records import StepRecord, read_records

ORZ = Path(sysconfig.get_path("scripts")) / "orz"

FIRST, LAST = 5, 10
"""Steps over which the reward at the start and at the end is averaged."""
GOALS = {"first": 0.45, "last": 0.85, "gain": 0.30, "mismatch": 1e-4, "seconds": 480}


@dataclass(frozen=True)
class Row:
    """One run."""

    recipe: str
    seed: int
    steps: int
    first: float
    last: float
    before: float
    after: float
    mismatch: float
    seconds: float
    verify: int
    check: int

    @property
    def reached(self) -> bool:
        """Say whether the run met every goal."""
        return (
            self.first <= GOALS["first"]
            and self.last >= GOALS["last"]
            and self.after - self.before >= GOALS["gain"]
            and self.mismatch < GOALS["mismatch"]
            and self.seconds <= GOALS["seconds"]
            and self.verify == self.check == 0
        )


def main() -> None:
    """Parse the command line, run, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--recipes", nargs="+", default=["quickstart", "quickstart-grpo"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--out", type=Path, help="the page; by default one of today for each backend")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of every run")
    arguments = parser.parse_intermixed_args()
    if arguments.out is None:
        arguments.out = today("quickstart-local" if "backend=local" in arguments.settings else "quickstart")
    arguments.out.parent.mkdir(exist_ok=True)
    tree, rows = commit(), list[Row]()
    folder = Path(tempfile.mkdtemp(prefix="orz-quickstart-"))
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            run_dir = folder / f"{recipe}-{seed}"
            rows.append(run(recipe, seed, arguments.settings, run_dir))
            print(line(rows[-1]), file=sys.stderr)
            arguments.out.write_text(table(rows, arguments.settings, tree), encoding="utf-8")
            if rows[-1].reached:
                shutil.rmtree(run_dir)
            else:
                print(f"kept: {run_dir}", file=sys.stderr)
    print(arguments.out)
    sys.exit(0 if all(row.reached for row in rows) else 1)


def run(recipe: str, seed: int, settings: list[str], run_dir: Path) -> Row:
    """Train, verify and check one run."""
    started = time.monotonic()
    command = ["train", recipe, f"seed={seed}", *settings, "--run-dir", str(run_dir)]
    ended = subprocess.run([ORZ, *command], check=False, capture_output=True, text=True)
    seconds = time.monotonic() - started
    if ended.returncode:
        sys.exit(f"orz {' '.join(command)}: exit code {ended.returncode}\n{ended.stderr}")
    lines = read_records(run_dir / "metrics.jsonl")
    records = [line.record for line in lines if isinstance(line.record, StepRecord)]
    rewards = [record.metrics["reward/mean"] for record in records if record.step > 0]
    accuracy = [record.metrics["eval/sums/accuracy"] for record in records if "eval/sums/accuracy" in record.metrics]
    newest = max(path.parent for path in run_dir.glob("checkpoints/step_*/manifest.json"))
    return Row(
        recipe=recipe,
        seed=seed,
        steps=len(rewards),
        first=fmean(rewards[:FIRST]),
        last=fmean(rewards[-LAST:]),
        before=accuracy[0],
        after=accuracy[-1],
        mismatch=max(record.metrics["mismatch/logprob_abs_mean"] for record in records if record.step > 0),
        seconds=seconds,
        verify=exit_code("ckpt", "verify", str(newest)),
        check=exit_code("monitor", "check", str(run_dir)),
    )


def exit_code(*arguments: str) -> int:
    """Run an orz command quietly and return its exit code."""
    return subprocess.run([ORZ, *arguments], check=False, capture_output=True).returncode


def line(row: Row) -> str:
    """Write a run as a line of the table."""
    return (
        f"| `{row.recipe}` | {row.seed} | {row.steps} | {row.first:.3f} | {row.last:.3f} | {row.before:.3f} "
        f"| {row.after:.3f} | {row.after - row.before:+.3f} | {row.mismatch:.1e} | {row.seconds:.0f} | {row.verify} "
        f"| {row.check} | {'yes' if row.reached else 'NO'} |"
    )


PAGE = """\
# The quickstart on three seeds

Made by `python benchmarks/quickstart.py{settings}` on {date}, commit {commit}:
{machine}. Goals: reward at most {first} over the first {num_first} steps and at least {last} over the
last {num_last}, held-out accuracy up by at least {gain}, log-probs of sampler and trainer within {mismatch} of each
other in every step (mean of absolute differences), at most {seconds} seconds for the whole command, exit code 0 of
`orz ckpt verify` and `orz monitor check`.

The model could add before; what it learned is which of its styles of answer is scored.

| {heads} |
|{rule}
{rows}
"""


def table(rows: list[Row], settings: list[str], tree: str) -> str:
    """Write the page."""
    heads = ("recipe", "seed", "steps", f"reward, first {FIRST} steps", f"reward, last {LAST}", "held out, before")
    heads = (*heads, "after", "gain", "mismatch", "seconds", "verify", "check", "goals met")
    return PAGE.format(
        settings="".join(f" {setting}" for setting in settings),
        commit=tree,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine(),
        num_first=FIRST,
        num_last=LAST,
        heads=" | ".join(heads),
        rule="---|" * len(heads),
        rows="\n".join(map(line, rows)),
        **GOALS,
    )


if __name__ == "__main__":
    main()
