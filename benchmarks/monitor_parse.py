"""How fast logs are read: a generated ORZ log and a verl log of known truth, against a parser of regular expressions.

    python benchmarks/monitor_parse.py [--mebibytes 1024] [--folder DIR] [--seed 0] [--out FILE.md]

Three readers take turns on one file, warm: ours, a per-line `re` parser as people write it, and `rg -c` (ripgrep) on
the commonest metric, where it is installed. Values are compared with the generator's truth, so a fast wrong reader
loses. Then `orz monitor check` judges the whole log as a command of its own, and a log of a quarter of the size: what
it takes in memory should hardly differ.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from result_page import Measured, made_by, write_measured

INTRODUCTION = """\
Logs are generated, {size} each, and in the page cache. Times are of the wall clock; all of a log are taken in one
run, one after the other. Every value that orz monitor reads is compared with what the generator wrote. The parser of
regular expressions reads a line at a time, in Python; `rg -c` counts the lines of one metric."""
LEAST_TIMES_NAIVE = 3.0
LEAST_OF_RG = 1 / 8
MOST_CHECK_S = 10.0
"""For 1 GB."""
MOST_GROWTH = 1.5
"""Of the memory for four times the log."""

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
_BLOCKS: Final = "█" * 9
_WORDS: Final = (
    "so",
    "the",
    "total",
    "is",
    "therefore",
    "we",
    "add",
    "and",
    "then",
    "multiply",
    "each",
    "side",
    "answer",
    "of",
)
_ENGINES: Final = 32
_ENGINE_FRAC: Final = 0.05
_DAMAGED_FRAC: Final = 0.001
_EQUAL: Final = 1e-9
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
_VERL_KEYS: Final = (
    *(f"actor/{key}" for key in ("pg_loss", "kl_loss", "entropy", "grad_norm", "lr", "pg_clipfrac", "ppo_kl")),
    *(
        f"critic/{key}/{part}"
        for key in ("score", "rewards", "advantages", "returns")
        for part in ("mean", "max", "min")
    ),
    *(f"{key}/{part}" for key in ("response_length", "prompt_length") for part in ("mean", "max", "min", "clip_ratio")),
    *(
        f"timing_s/{key}"
        for key in ("gen", "old_log_prob", "ref", "values", "adv", "update_actor", "update_critic", "step")
    ),
    *(f"timing_per_token_ms/{key}" for key in ("gen", "ref", "values", "adv", "update_actor", "update_critic")),
    *(
        f"perf/{key}"
        for key in ("total_num_tokens", "time_per_step", "throughput", "mfu/actor", "max_memory_allocated_gb")
    ),
)


def write_orz(path: Path, num_bytes: int, seed: int) -> dict[str, list[float]]:
    r"""Write an ORZ log: 32 ranks, bars with `\r`, samples of text, vLLM's lines, some damage.

    Returns:
        The truth: `reward/mean` and `policy/loss` of each step, and the mean `bar/pg` of each pass.
    """
    rng = random.Random(seed)  # noqa: S311 - a generator of test data
    truth: dict[str, list[float]] = {"reward/mean": [], "policy/loss": [], "bar/pg": []}
    with path.open("wb") as file:
        for step in range(sys.maxsize):
            if file.tell() >= num_bytes:
                return truth
            reward, loss = rng.random(), rng.uniform(-0.1, 0.1)
            truth["reward/mean"].append(reward)
            truth["policy/loss"].append(loss)
            file.write(_driver(step, "orz.ppo.trainer:make_experience:227", "start generation"))
            file.writelines(_chatter(rng, 400))
            summary = (
                f"avg_raw_rewards: {reward}, avg_kl: 0.01, avg_response_length: 852.1, avg_custom_rewards: {reward}"
            )
            file.write(_driver(step, "orz.ppo.trainer:make_experience:317", summary))
            file.writelines(_bar(rng, "Critic", ("critic_loss", "values", "critic_lr"), 216)[0])
            frames, mean = _bar(rng, "Actor", ("pg", "ret", "glen", "tlen", "kl", "act_lr", "ent"), 216)
            truth["bar/pg"].append(mean)
            file.writelines(frames)
            status = (
                f"{{'policy_loss': {loss}, 'actor_lr': 1e-06, 'entropy': 0.45, 'kl': 0.01, 'policy_update_steps': 1.0}}"
            )
            file.write(_driver(step, "orz.ppo.trainer:train:173", status))
    raise AssertionError


def write_verl(path: Path, num_bytes: int, seed: int) -> dict[str, list[float]]:
    """Write a verl log in full precision with numpy's wrappers, samples of text between the steps.

    Returns:
        The truth: `reward/mean` and `policy/loss` of each step.
    """
    rng = random.Random(seed)  # noqa: S311 - a generator of test data
    truth: dict[str, list[float]] = {"reward/mean": [], "policy/loss": []}
    with path.open("wb") as file:
        for step in range(1, sys.maxsize):
            if file.tell() >= num_bytes:
                return truth
            values = [rng.gauss(0.5, 0.02) for _ in _VERL_KEYS]
            truth["policy/loss"].append(values[_VERL_KEYS.index("actor/pg_loss")])
            truth["reward/mean"].append(values[_VERL_KEYS.index("critic/score/mean")])
            shown = [
                f"{key}:np.float64({value})" if index % 3 == 0 else f"{key}:{value}"
                for index, (key, value) in enumerate(zip(_VERL_KEYS, values, strict=True))
            ]
            line = f"\x1b[36m(TaskRunner pid=678203)\x1b[0m step:{step} - {' - '.join(shown)}\n"
            file.write(line.encode())
            file.writelines(_chatter(rng, 8))
    raise AssertionError


def _driver(step: int, place: str, message: str) -> bytes:
    """Return a loguru record."""
    clock = f"{step // 3600 % 24:02}:{step // 60 % 60:02}:{step % 60:02}"
    return f"2025-02-{1 + step // 86400 % 28:02} {clock}.882 | INFO     | {place} - {message}\n".encode()


def _chatter(rng: random.Random, num_lines: int) -> Iterator[bytes]:
    """Yield lines that hold no metric of the trainer: samples, engine lines, damage."""
    for _ in range(num_lines):
        kind = rng.random()
        prefix = f"\x1b[36m(LLMActor pid={10_000 + 7 * rng.randrange(_ENGINES)})\x1b[0m "
        if kind < _ENGINE_FRAC:
            yield (
                f"{prefix}INFO 02-24 10:13:50 metrics.py:455] Avg prompt throughput: 0.0 tokens/s, Avg generation "
                f"throughput: {rng.uniform(1, 5000):.1f} tokens/s, Running: 16 reqs, Swapped: 0 reqs\n"
            ).encode()
        elif kind < _ENGINE_FRAC + _DAMAGED_FRAC:
            yield prefix.encode() + bytes(rng.randrange(0x80, 0x100) for _ in range(40)) + b"\n"
        else:
            yield (prefix + " ".join(rng.choices(_WORDS, k=rng.randrange(5, 30))) + f" {rng.random():.4f}\n").encode()


def _bar(rng: random.Random, role: str, keys: tuple[str, ...], total: int) -> tuple[list[bytes], float]:
    """Return the frames of a pass as Ray prints them, and the true mean of the first key."""
    frames: list[bytes] = []
    first = []
    prefix = f"\x1b[36m({role}RayActorBase pid=24113)\x1b[0m \r"
    for done in range(total):
        values = [f"{rng.uniform(-1, 1):.3g}" for _ in keys]
        first.append(float(values[0]))
        postfix = ", ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
        bar = f"{role} Train epoch [1/1]:  {100 * done // total:3}%|{_BLOCKS}| "
        tail = f"/{total} [02:06<00:06,  6.57s/it, {postfix}]"
        frames.append(f"{prefix}{bar}{done}{tail}\r{bar}{done + 1}{tail}\n".encode())
    return frames, sum(first) / len(first)


def read_ours(path: Path) -> dict[str, list[float]]:
    """Read with orz-monitor."""
    from orz_monitor.loading import load_run  # noqa: PLC0415 - the other readers don't pay for it

    run = load_run(path)
    return {name: series.values.tolist() for name, series in run.metrics.items()}


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


def _timed(read: Callable[[Path], object], path: Path) -> tuple[float, object]:
    """Return how long a reader took, and what it found."""
    start = time.perf_counter()
    found = read(path)
    return time.perf_counter() - start, found


def _rg(path: Path, needle: str) -> float | None:
    """Return how long ripgrep took to count the lines of a metric."""
    command = shutil.which("rg")
    if command is None:
        return None
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


def _checked(path: Path) -> _Check:
    """Run `orz monitor check`.

    Raises:
        SystemExit: it could not judge.
    """
    command = [sys.executable, "-m", "orz_cli", "monitor", "check", str(path), "--json"]
    done = subprocess.run([sys.executable, "-c", _MEASURING, *command], check=True, capture_output=True, text=True)
    code, wall_s, processor_s, memory_mb = map(float, done.stdout.split())
    if code not in {0, 1}:  # noise as values of metrics is rightly found
        raise SystemExit(f"void: orz monitor check ended with {code:.0f}")
    return _Check(wall_s=wall_s, processor_s=processor_s, memory_mb=memory_mb)


def _compare(truth: dict[str, list[float]], found: dict[str, list[float]]) -> None:
    """Compare what was found with what was written.

    Raises:
        SystemExit: they differ.
    """
    for name, values in truth.items():
        ours = found.get(name, [])
        if len(ours) != len(values) or any(abs(a - b) > _EQUAL for a, b in zip(ours, values, strict=True)):
            raise SystemExit(f"void: {name}: {len(ours)} values found, {len(values)} written, or they differ")


def _measure(
    name: str, path: Path, truth: dict[str, list[float]], needle: str, quarter_mb: float
) -> Iterator[Measured]:
    """Time the readers on one log, of a quarter of which `check` took so much memory."""
    size = path.stat().st_size
    naive_s, _ = _timed(read_naively, path)
    ours_s, found = _timed(read_ours, path)
    _compare(truth, found)  # type: ignore[arg-type]
    rg_s = _rg(path, needle)
    check = _checked(path)
    yield Measured(what=f"{name}: orz monitor reads", value=size / 1e6 / ours_s, unit="MB/s", digits=0)
    yield Measured(
        what=f"{name}: the parser of regular expressions reads", value=size / 1e6 / naive_s, unit="MB/s", digits=0
    )
    times = naive_s / ours_s
    yield Measured(what=f"{name}: as fast as that parser", value=times, unit="times", least=LEAST_TIMES_NAIVE)
    if rg_s is not None:
        yield Measured(what=f"{name}: as fast as `rg -c`", value=rg_s / ours_s, unit="times", least=LEAST_OF_RG)
    most = MOST_CHECK_S * size / 1e9
    yield Measured(what=f"{name}: `orz monitor check`", value=check.wall_s, unit="s", most=most)
    yield Measured(what=f"{name}: processor time of `check`, of all its processes", value=check.processor_s, unit="s")
    yield Measured(what=f"{name}: memory of `check`", value=check.memory_mb, unit="MB", digits=0)
    growth = check.memory_mb / quarter_mb
    what = f"{name}: memory for this log by that for a quarter of it"
    yield Measured(what=what, value=growth, unit="times", most=MOST_GROWTH)


def main() -> int:
    """Generate, read and write the page; return 1 where a target is missed."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--mebibytes", type=int, default=1024)
    arguments.add_argument("--folder", type=Path, help="where the logs are written for the while")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path, help="a Markdown file; by default stdout")
    options = arguments.parse_args()
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, make, needle in (("ORZ", write_orz, "act_lr="), ("verl", write_verl, "step:")):
            path = Path(folder) / f"{name}.log"
            make(path, options.mebibytes * _MEBI // 4, options.seed)
            quarter_mb = _checked(path).memory_mb
            truth = make(path, options.mebibytes * _MEBI, options.seed)
            measured += _measure(name, path, truth, needle, quarter_mb)
            path.unlink()
    introduction = INTRODUCTION.format(size=f"{options.mebibytes} MiB")
    made = made_by(f"python benchmarks/monitor_parse.py --mebibytes {options.mebibytes}")
    return write_measured("How fast orz monitor reads logs", f"{made}\n\n{introduction}", measured, options.out)


if __name__ == "__main__":
    sys.exit(main())
