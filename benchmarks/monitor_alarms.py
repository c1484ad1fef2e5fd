"""False alarms on healthy runs, and how soon injected faults are found.

    python benchmarks/monitor_alarms.py [--steps 100000] [--logs DIR] [--out FILE.md]

Runs are simulated (`orz_monitor.simulated`): half of the seeds are for fitting thresholds, the other half for the
claims, and both are shown. Logs of real runs are judged too, where they can be read.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from result_page import made_by, table, write

from orz_cli.errors import OrzError
from orz_cli.findings import Severity
from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.simulated import KINDS, as_run, healthy, only_probabilities
from orz_monitor.simulated_faults import FAULTS, SLOW_RAMPS, delay, is_found_at_the_end, stall_found

LENGTHS = (100, 200, 400, 800, 1000)
SOON = 10
"""Steps within which a fault must be found."""
EVERY = 20
"""Steps after which a growing run is judged again."""
HALVES = {"fit": 0, "claim": 1}
PATIENCE = 100
"""Steps after which a slow ramp counts as missed."""
FRESH = 1_000_000
"""From this seed on, nothing was looked at while rules were written."""


MOST_WARNINGS = 1.0
"""Among 1,000 healthy steps."""
INTRODUCTION = """\
Simulated healthy runs with the noise of public ones, judged every 20 steps as they grow and at their end: every warning
that was ever shown counts, those that went away by themselves too. A third of them have a restart; every other one logs
the gap of probabilities between sampler and trainer alone, as verl does. And runs with a fault put in that lasts to
their end, judged after every step, and once at the end, as who looks at a finished run. Thresholds were fitted on the
half `fit`; the half `claim` is of the same simulator, with seeds that nothing was fitted on. A fault of a ramp counts
from the step in which it leaves the run's own 6-sigma band; a delay of 1 is the first step with the fault. Promised are
no error and at most one warning among 1,000 healthy steps, and each fault of the half `claim` within 10 steps and at
the end."""
OF_SLOW_RAMPS = f"""\
Ramps of one or two percent a step, on the seeds of the half `claim`, counted as above and up to {PATIENCE} steps.
Nothing is promised of them: healthy runs drift as fast, so that entropy and length have to double or halve while the
reward does not rise, and KL is left to the rule `kl_drift`."""


def seeds(half: int, num_steps: int) -> Iterator[tuple[int, str, int]]:
    """Yield seed, kind and length of runs of one half until they have so many steps: even or odd seeds."""
    done, index = 0, 0
    while done < num_steps:
        length = LENGTHS[index % len(LENGTHS)]
        yield FRESH * half + 2 * index + half, KINDS[(index // len(LENGTHS)) % len(KINDS)], length
        done, index = done + length, index + 1


def alarms(half: int, num_steps: int) -> tuple[Counter[tuple[str, str]], int, int]:
    """Judge healthy runs as they grow: findings that were ever shown, by rule and worst severity; runs and steps."""
    found: Counter[tuple[str, str]] = Counter()
    runs = steps = 0
    for seed, kind, length in seeds(half, num_steps):
        metrics = healthy(length, seed=seed, kind=kind)
        if seed // 2 % 2:
            metrics = only_probabilities(metrics)
        shown: dict[str, set[str]] = {}
        for end in (*range(EVERY, length, EVERY), length):
            restarts = (length // 3,) if seed % 3 == 0 and end > length // 3 else ()
            part = {name: values[:end] for name, values in metrics.items()}
            for finding in judge(as_run(part, restarts=restarts, finished=end == length)).findings:
                shown.setdefault(finding.code, set()).add(str(finding.severity))
        order = [str(severity) for severity in Severity]
        found.update((code, min(severities, key=order.index)) for code, severities in shown.items())
        runs, steps = runs + 1, steps + length
    return found, runs, steps


class Found(NamedTuple):
    """How a fault of one run was found: after how many steps, and whether at the end, too."""

    delay: int | None
    at_the_end: bool


def faults(half: int, num_runs: int) -> dict[str, list[Found]]:
    """Put each fault into some runs, at different steps."""
    found: dict[str, list[Found]] = {fault.name: [] for fault in FAULTS}
    for index in range(num_runs):
        seed, kind = FRESH * half + 10_000 + 2 * index + half, ("ppo", "grpo")[index % 2]
        metrics = healthy(260, seed=seed, kind=kind)
        at = 70 + (37 * index) % 150
        for fault in FAULTS:
            found[fault.name].append(Found(delay(metrics, fault, at), is_found_at_the_end(metrics, fault, at)))
    return found


def slow_ramps(num_runs: int) -> dict[str, list[Found]]:
    """Put each slow ramp into some runs of the half `claim`, at different steps."""
    found: dict[str, list[Found]] = {fault.name: [] for fault in SLOW_RAMPS}
    for index in range(num_runs):
        seed, kind = FRESH + 30_000 + 2 * index + 1, ("ppo", "grpo")[index % 2]
        metrics, at = healthy(400, seed=seed, kind=kind), 130 + (37 * index) % 100
        for fault in SLOW_RAMPS:
            at_the_end = is_found_at_the_end(metrics, fault, at)
            found[fault.name].append(Found(delay(metrics, fault, at, latest=PATIENCE), at_the_end))
    return found


def row_of_alarms(found: Counter[tuple[str, str]], runs: int, steps: int) -> str:
    """Return the table's row on healthy runs."""
    errors, warnings = of_severity(found, Severity.ERROR), of_severity(found, Severity.WARN)
    by_rule = ", ".join(f"{code} {n}" for (code, severity), n in sorted(found.items()) if severity != Severity.INFO)
    return f"{runs} | {steps} | {errors} | {warnings} | {1000 * warnings / steps:.3f} | {by_rule or '-'}"


def of_severity(found: Counter[tuple[str, str]], wanted: Severity) -> int:
    """Return how many findings have a severity."""
    return sum(count for (_, severity), count in found.items() if severity == wanted)


def rows_of_faults(found: dict[str, list[Found]]) -> list[str]:
    """Return the table's rows on faults."""
    rows = []
    for name, runs in found.items():
        seen = [run.delay for run in runs if run.delay is not None]
        in_time = sum(value <= SOON for value in seen)
        middle = f"{np.median(seen):.0f}" if seen else "-"
        worst = f"{max(seen)}" if len(seen) == len(runs) else "missed"
        at_the_end = sum(run.at_the_end for run in runs)
        rows.append(f"{name} | {len(runs)} | {in_time} | {middle} | {worst} | {at_the_end}")
    return rows


def stalls(half: int, num_runs: int) -> int:
    """Return in how many runs a silence is found as a stall, and a shorter one is not."""
    begins = FRESH * half + 20_000 + half
    return sum(stall_found(healthy(200, seed=begins + 2 * index)) for index in range(num_runs))


def rows_of_logs(folder: Path | None) -> list[str]:
    """Judge the logs of real runs that can be read."""
    rows = []
    for path in sorted(folder.iterdir()) if folder is not None else []:
        try:
            verdict = judge(load_run(path))
        except OrzError as error:
            rows.append(f"{path.name} | - | - | - | {str(error).splitlines()[0][-60:]}")
            continue
        found = ", ".join(f"{f.severity}: {f.code}" for f in verdict.findings) or "-"
        errors, warnings = verdict.count(Severity.ERROR), verdict.count(Severity.WARN)
        rows.append(f"{path.name} | {len(verdict.run.steps)} | {errors} | {warnings} | {found}")
    return rows


def main() -> int:
    """Measure and write; return 1 where the half `claim` misses a target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000, help="healthy steps in all")
    parser.add_argument("--runs", type=int, default=20, help="runs with each fault, in each half")
    parser.add_argument("--logs", type=Path, help="a folder with logs of real healthy runs")
    parser.add_argument("--out", type=Path, help="a Markdown file; by default stdout")
    args = parser.parse_args()
    made = made_by(f"python benchmarks/monitor_alarms.py --steps {args.steps} --runs {args.runs}")
    parts = ["# Alarms of orz monitor", f"{made}\n{INTRODUCTION}"]
    healthy_parts, faulty_parts, missed = [], [], []
    for name, half in HALVES.items():
        found, runs, steps = alarms(half, args.steps // 2)
        head = "runs | steps | errors | warnings | warnings per 1,000 steps | by rule"
        healthy_parts += [f"## Healthy runs: {name}", table(head, [row_of_alarms(found, runs, steps)])]
        late, num_stalls = faults(half, args.runs), stalls(half, args.runs)
        rows = [*rows_of_faults(late), f"stall (3 x p95, from 10 min) | {args.runs} | {num_stalls} | - | - | -"]
        head = "fault | runs | within 10 steps | median delay | worst | at the end"
        faulty_parts += [f"## Faults: {name}", table(head, rows)]
        missed = list(misses(found, steps, late, args.runs - num_stalls))
    head = "ramp | runs | within 10 steps | median delay | worst | at the end"
    slow = table(head, rows_of_faults(slow_ramps(args.runs)))
    parts += [*healthy_parts, *faulty_parts, "## Slower ramps", OF_SLOW_RAMPS, slow]
    logs = rows_of_logs(args.logs)
    if logs:
        parts += ["## Logs of real runs", table("log | steps | errors | warnings | findings", logs)]
    write(parts, args.out)
    for what in missed:
        sys.stderr.write(f"missed: {what}\n")
    return int(bool(missed))


def misses(found: Counter[tuple[str, str]], steps: int, late: dict[str, list[Found]], num_quiet: int) -> Iterator[str]:
    """Name the targets that one half misses; `num_quiet` is in how many runs a stall was not told right."""
    if of_severity(found, Severity.ERROR):
        yield "an error on a healthy run"
    if of_severity(found, Severity.WARN) > MOST_WARNINGS * steps / 1000:
        yield "more than one warning among 1,000 healthy steps"
    for name, faulty in late.items():
        if any(run.delay is None or run.delay > SOON for run in faulty):
            yield f"{name} was not always found within {SOON} steps"
        if not all(run.at_the_end for run in faulty):
            yield f"{name} was not always found at the end"
    if num_quiet:
        yield "a stall was not always found, or too early"


if __name__ == "__main__":
    sys.exit(main())
