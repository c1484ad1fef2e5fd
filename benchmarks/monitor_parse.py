"""How fast logs are read: a generated ORZ log and a verl log of known truth, against a parser of regular expressions.

    python benchmarks/monitor_parse.py [--mebibytes 1024] [--times 10] [--folder DIR] [--seed 0] [--out FILE.md]

Three readers take turns on one file, warm: ours, a per-line `re` parser as people write it, and `rg -c` (ripgrep) on
the commonest metric, where it is installed. Ours reads in a process a processor, as every command does; the others are
one process. Values are compared with the generator's truth, so a fast wrong reader loses. Then `orz monitor check`
judges the whole log as a command of its own, and a log of as many steps and ten times the size, as those are that hold
samples of text: what that takes in memory should hardly differ. The temporary folder needs room for both, 11 GiB.
"""

from __future__ import annotations

import argparse
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from arms import compile_packages, processors_of
from generated_logs import write_orz, write_padded, write_verl
from result_page import Measured, made_by, write_measured

from orz_monitor.loading import load_run
from orz_monitor.series import Series
from orz_monitor.transport.scanning import SCANNER

INTRODUCTION = """\
Logs are generated, {size} each, and in the page cache. Times are of the wall clock; all of a log are taken in one
run, one after the other, ours and ripgrep's as the best of {rounds} turns. Orz monitor is imported before it reads, and
reads in a process a processor. Every value that it reads is compared with what the generator wrote. The parser of
regular expressions reads a line at a time, in Python; `rg -c` counts the lines of one metric, and is one process.
Memory is that of the largest process. A log {times} times as large has the same steps, and text between.
{scanner}
Where the processors were while `check` read a log, as `perf` saw them:

{profiles}"""
ROUNDS = 3
LEAST_TIMES_NAIVE = 3.0
LEAST_OF_RG = 1 / 8
MOST_CHECK_S = 10.0
"""For 1 GB."""
MOST_BYTES_A_VALUE = 60.0
"""Of memory, beyond `BASE_MB`."""
BASE_MB = 150.0
MOST_GROWTH = 1.05
"""Of the memory for a larger log of as many steps."""

_MEASURING: Final = """
import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
wall_s = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)
"""
"""Runs a command from a small process: what a process takes counts from what its parent had when it was started."""
_MEBI: Final = 1 << 20
_EQUAL: Final = 1e-9
_Found = TypeVar("_Found")
_NAIVE_BAR: Final = re.compile(
    r"(?:Actor|Critic) Train epoch \[\d+/\d+\]:.*?\| *(\d+)/(\d+) \[.*?(?:it/s|s/it), (.*?)\]"
)
_NAIVE_PAIR: Final = re.compile(r"(\w+)=([-+.\deE]+|nan|inf)")
_NAIVE_STEP: Final = re.compile(r"step:(\d+) - (.*)")
_NAIVE_ITEM: Final = re.compile(r"([\w/@().-]+):(?:np\.float64\()?(-?[\d.]+(?:e[+-]?\d+)?|nan|inf)\)?(?: - |$)")
_NAIVE_ENGINE: Final = re.compile(
    r"Avg prompt throughput: ([\d.]+) tokens/s, Avg generation throughput: ([\d.]+) tokens/s, "
    r"Running: (\d+) reqs, Swapped: (\d+) reqs"
)


def read_ours(path: Path) -> Mapping[str, Series]:
    """Read with orz-monitor: metrics, and phases as `seconds/<phase>`."""
    run = load_run(path)
    return {**run.metrics, **{f"seconds/{name}": series for name, series in run.seconds.items()}}


def read_naively(path: Path) -> dict[str, list[float]]:
    """Read as people do: text mode, a regular expression for each line."""
    found: dict[str, list[float]] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if match := _NAIVE_BAR.search(line):
                for key, value in _NAIVE_PAIR.findall(match[3]):
                    found.setdefault(key, []).append(float(value))
            elif match := _NAIVE_STEP.search(line):
                for key, value in _NAIVE_ITEM.findall(match[2]):
                    found.setdefault(key, []).append(float(value))
            elif match := _NAIVE_ENGINE.search(line):
                for key, value in zip(("prompt", "generation", "running", "swapped"), match.groups(), strict=True):
                    found.setdefault(key, []).append(float(value))
    return found


def _timed(read: Callable[[Path], _Found], path: Path) -> tuple[float, _Found]:
    """Return how long a reader took, and what it found."""
    start = time.perf_counter()
    found = read(path)
    return time.perf_counter() - start, found


def _rg(path: Path, needle: str) -> float:
    """Return how long ripgrep took to count the lines of a metric; infinity where it is not installed."""
    command = shutil.which("rg")
    if command is None:
        return math.inf
    start = time.perf_counter()
    subprocess.run([command, "-c", needle, str(path)], check=True, capture_output=True)
    return time.perf_counter() - start


class _Check(NamedTuple):
    """What `orz monitor check` took.

    Attributes:
        wall_s: seconds of the wall clock.
        processor_s: seconds of processors, of all its processes.
        memory_mb: peak memory of its largest process, MB.
    """

    wall_s: float
    processor_s: float
    memory_mb: float


def _command(path: Path) -> list[str]:
    """Return the command that judges a log."""
    return [sys.executable, "-m", "orz_cli", "monitor", "check", str(path), "--json"]


def _checked(path: Path) -> _Check:
    """Run `orz monitor check`.

    Raises:
        SystemExit: it could not judge.
    """
    done = subprocess.run(
        [sys.executable, "-c", _MEASURING, *_command(path)], check=True, capture_output=True, text=True
    )
    code, wall_s, processor_s, memory_mb = map(float, done.stdout.split())
    if code not in {0, 1}:  # noise as values of metrics is rightly found
        raise SystemExit(f"void: orz monitor check ended with {code:.0f}")
    return _Check(wall_s=wall_s, processor_s=processor_s, memory_mb=memory_mb)


def _compare(truth: dict[str, list[float]], found: Mapping[str, Series]) -> None:
    """Compare what was found with what was written.

    Raises:
        SystemExit: they differ.
    """
    for name, values in truth.items():
        ours = found[name].values.tolist() if name in found else []
        if len(ours) != len(values) or any(abs(a - b) > _EQUAL for a, b in zip(ours, values, strict=True)):
            raise SystemExit(f"void: {name}: {len(ours)} values found, {len(values)} written, or they differ")


def _measure(name: str, path: Path, truth: dict[str, list[float]], needle: str) -> Iterator[Measured]:
    """Time the readers on one log, and `check`."""
    size = path.stat().st_size
    naive_s, _ = _timed(read_naively, path)
    ours_s, found = _timed(read_ours, path)
    rg_s = _rg(path, needle)
    for _ in range(ROUNDS - 1):
        ours_s = min(ours_s, _timed(read_ours, path)[0])
        rg_s = min(rg_s, _rg(path, needle))
    _compare(truth, found)
    check = _checked(path)
    yield Measured(what=f"{name}: orz monitor reads", value=size / 1e6 / ours_s, unit="MB/s", digits=0)
    yield Measured(
        what=f"{name}: the parser of regular expressions reads", value=size / 1e6 / naive_s, unit="MB/s", digits=0
    )
    times = naive_s / ours_s
    yield Measured(what=f"{name}: as fast as that parser", value=times, unit="times", least=LEAST_TIMES_NAIVE)
    if rg_s < math.inf:
        yield Measured(what=f"{name}: as fast as `rg -c`", value=rg_s / ours_s, unit="times", least=LEAST_OF_RG)
    most = MOST_CHECK_S * size / 1e9
    yield Measured(what=f"{name}: `orz monitor check`", value=check.wall_s, unit="s", most=most)
    yield Measured(what=f"{name}: processor time of `check`, of all its processes", value=check.processor_s, unit="s")
    values = sum(series.values.size for series in found.values())
    yield Measured(what=f"{name}: memory of `check`", value=check.memory_mb, unit="MB", digits=0)
    yield Measured(what=f"{name}: values that are kept", value=values / 1e6, unit="millions")
    each = max(0.0, check.memory_mb - BASE_MB) * 1e6 / values
    yield Measured(
        what=f"{name}: memory beyond {BASE_MB:.0f} MB, for each", value=each, unit="bytes", most=MOST_BYTES_A_VALUE
    )


def _measure_larger(name: str, path: Path, larger: Path) -> Iterator[Measured]:
    """Compare what `check` takes for a log with what it takes for a larger one of as many steps."""
    check, other = _checked(path), _checked(larger)
    size_gb = larger.stat().st_size / 1e9
    yield Measured(what=f"{name}: `check` of {size_gb:.1f} GB of as many steps", value=other.wall_s, unit="s")
    yield Measured(
        what=f"{name}: its memory, by that for {path.stat().st_size / 1e9:.1f} GB",
        value=other.memory_mb / check.memory_mb,
        unit="times",
        most=MOST_GROWTH,
    )


def main() -> int:
    """Generate, read and write the page; return 1 where a target is missed."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--mebibytes", type=int, default=1024)
    arguments.add_argument("--times", type=int, default=10, help="how much larger the log of as many steps is")
    arguments.add_argument("--folder", type=Path, help="where the logs are written for the while")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path, help="a Markdown file; by default stdout")
    options = arguments.parse_args()
    compile_packages()
    measured: list[Measured] = []
    profiles: list[str] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, make, needle in (("ORZ", write_orz, "act_lr="), ("verl", write_verl, "step:")):
            path = Path(folder) / f"{name}.log"
            truth = make(path, options.mebibytes * _MEBI, options.seed)
            measured += _measure(name, path, truth, needle)
            profiles.append(f"- {name}. {processors_of(_command(path), codes=(0, 1))}")
            larger = path.with_suffix(".larger.log")
            write_padded(larger, path, options.times, options.seed)
            measured += _measure_larger(name, path, larger)
            path.unlink()
            larger.unlink()
    introduction = INTRODUCTION.format(
        size=f"{options.mebibytes} MiB",
        rounds=ROUNDS,
        times=options.times,
        scanner=f"The scanner in C {'reads' if SCANNER is not None else 'is NOT compiled, or switched off, here'}.",
        profiles="\n".join(profiles),
    )
    made = made_by(f"python benchmarks/monitor_parse.py --mebibytes {options.mebibytes} --times {options.times}")
    return write_measured("How fast orz monitor reads logs", f"{made}\n\n{introduction}", measured, options.out)


if __name__ == "__main__":
    sys.exit(main())
