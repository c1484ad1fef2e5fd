"""Programs timed side by side: in turn, so that a busy moment of the machine meets all of them alike.

Of several rounds the shortest counts, since everything else that runs can only make one longer. Processor time stands
beside it, which other programs change less. Memory is the kernel's peak of the process (maxrss).

Our packages run from compiled files, as pip leaves them on a machine, also where the environment forbids to write any:
to compile them anew takes longer than all else of a start.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import median

ORZ = [sys.executable, "-m", "orz_cli", "ckpt"]
HEAD = "arm | s, least | s, median | processor s | peak MB"
"""Of a table of `Arm.row`."""
_SECTOR = 512
_MEGABYTE = 1e6
_TRIES = 20
_MOST_SYMBOLS = 14


@dataclass(kw_only=True)
class Arm:
    """One program, and what its runs took."""

    name: str
    command: Sequence[str | Path]
    before: Callable[[], object] | None = None
    """Done before each run, outside the time."""
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    read_mb: list[float] = field(default_factory=list)
    """From the disk."""
    output: str = ""
    """What the last run wrote to stdout."""

    @property
    def least(self) -> float:
        """The shortest wall time, start of the program included."""
        return min(self.seconds)

    @property
    def peak(self) -> float:
        """The most memory of any run, in MB."""
        return max(self.peak_mb)

    def run(self) -> None:
        """Run once.

        Raises:
            SystemExit: it ended with an exit code other than 0.
        """
        compile_packages()
        if self.before:
            self.before()
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as failed:
            begin = time.perf_counter()
            process = subprocess.Popen(self.command, stdout=said, stderr=failed)
            _, status, used = os.wait4(process.pid, 0)
            self.seconds.append(time.perf_counter() - begin)
            process.returncode = os.waitstatus_to_exitcode(status)
            for stream in (said, failed):
                stream.seek(0)
            if process.returncode:
                raise SystemExit(f"void: {self.name} ended with {process.returncode}\n{failed.read().decode()[-2000:]}")
            self.output = said.read().decode(errors="replace")
        self.processor.append(used.ru_utime + used.ru_stime)
        self.peak_mb.append(1024 * used.ru_maxrss / _MEGABYTE)
        self.read_mb.append(_SECTOR * used.ru_inblock / _MEGABYTE)

    @property
    def row(self) -> str:
        """The arm as a row under `HEAD`."""
        times = f"{self.least:.2f} | {median(self.seconds):.2f} | {min(self.processor):.2f}"
        return f"{self.name} | {times} | {self.peak:.0f}"


def take_turns(arms: Sequence[Arm], rounds: int) -> None:
    """Run every arm once a round."""
    for number in range(rounds):
        for arm in arms:
            arm.run()
            print(
                f"{number + 1}/{rounds} {arm.name}: {arm.seconds[-1]:.2f} s, {arm.processor[-1]:.2f} s of processors",
                file=sys.stderr,
            )


@cache
def compile_packages() -> None:
    """Compile our packages, as pip does when it installs them; what is compiled already stays so.

    Raises:
        SystemExit: one is not installed here.
    """
    specs = {name: find_spec(name) for name in ("orz_cli", "orz_ckpt", "orz_monitor", "orz_train")}
    folders = [Path(spec.origin).parent for spec in specs.values() if spec and spec.origin]
    if len(folders) < len(specs):
        raise SystemExit(f"void: one of {', '.join(specs)} is not installed here")
    subprocess.run([sys.executable, "-m", "compileall", "-q", *folders], check=True)


def forget(files: Iterable[Path]) -> None:
    """Drop files from the page cache.

    Raises:
        SystemExit: the kernel kept one of them, so that what is measured next would not be cold.
    """
    os.sync()
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            middle = os.fstat(descriptor).st_size // 2
            for _ in range(_TRIES):  # what another program holds a moment stays
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                if not middle or not _is_cached(descriptor, middle):
                    break
                time.sleep(0.2)
            else:
                raise SystemExit(f"void: {file} stayed in the page cache")
        finally:
            os.close(descriptor)


def _is_cached(descriptor: int, offset: int) -> bool:
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except (BlockingIOError, OSError):  # not there without waiting; or the file system cannot say
        return False


def processors_of(command: Sequence[str | Path], *, codes: Collection[int] = (0,)) -> str:
    """Run a command once more under `perf`, and return where its processors were most.

    Args:
        command: the command.
        codes: exit codes that it may end with.

    Raises:
        SystemExit: it ended with another one.
    """
    if shutil.which("perf") is None:
        return "Where the processors were is not known: `perf` is not here."
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        done = subprocess.run(
            ["perf", "record", "-q", "-F", "999", "-o", data, *command], check=False, capture_output=True
        )
        if done.returncode not in codes:
            raise SystemExit(f"void: under perf, {command[0]} ended with {done.returncode}")
        report = ["perf", "report", "-i", data, "--stdio", "--no-children", "-s", "symbol", "-w", "60"]
        said = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^ +([\d.]+)%  \[.\] (.+?)(?:  .*)?$", said, flags=re.MULTILINE)
    shares = [f"`{symbol}` {float(share):.0f} %" for share, symbol in found[:_MOST_SYMBOLS]]
    return f"Processors: {', '.join(shares)}."
