"""How soon `orz monitor tail` shows something of a large log, and a line that was just written; what it costs idle.

python benchmarks/monitor_tail.py [--bytes 1000000000] [--seconds 20] [--out benchmarks/results/DATE-monitor-tail.md]

Everything is measured from outside, on the screen of a pseudo-terminal: the first paint from the start of the
process, the interpreter's start included, to the picture with the log's last line; a line from the moment before its
`write` to the picture that shows it or a later one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pexpect
import pyte

FIRST_PAINT_S = 0.3
LATENCY_P99_S = 0.5
IDLE_SHARE = 0.02
REPEATS = 5
LINES_PER_SECOND = 1000
IDLE_S = 10
LAST_LINE = "the very last line of this log"
_MARK = re.compile(r"mark (\d+)")


class Screen:
    """`orz monitor tail` on a pseudo-terminal of 80 by 24."""

    def __init__(self, path: Path) -> None:
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        self.started = time.perf_counter()
        command = ["-m", "orz_cli", "monitor", "tail", str(path)]
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.process = pexpect.spawn(sys.executable, command, dimensions=(24, 80), env=environment)

    def read(self, wait_s: float = 0.02) -> str:
        """Take what was drawn and return what the screen shows."""
        with contextlib.suppress(pexpect.TIMEOUT):
            self._stream.feed(self.process.read_nonblocking(1 << 16, wait_s))
        return "\n".join(self._screen.display)

    def wait_for(self, text: str, *, timeout_s: float = 120) -> float:
        """Wait until a text is shown; return the seconds since the start of the process."""
        while text not in self.read():
            if time.perf_counter() - self.started > timeout_s:
                raise SystemExit(f"void: {text!r} was never shown")
        return time.perf_counter() - self.started

    def close(self) -> None:
        """End it."""
        self.process.close(force=True)


def main() -> int:
    """Print the table, write it where asked; return 1 beyond a limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "train.log"
        write_log(log, options.bytes)
        paint = sorted(first_paint(log) for _ in range(REPEATS))[REPEATS // 2]
        log.unlink()
        bare = sorted(interpreter() for _ in range(REPEATS))[REPEATS // 2]
        waits = sorted(latencies(Path(name) / "live.log", options.seconds))
        idle = idle_share(Path(name) / "live.log")
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    met = (paint <= FIRST_PAINT_S, p99 <= LATENCY_P99_S, idle <= IDLE_SHARE)
    gigabytes = f"{options.bytes / 1e9:.2g} GB"
    table = [
        "| what | measured | limit | met |",
        "|---|---|---|---|",
        row(f"first paint of {gigabytes}, the start of Python included", f"{paint:.2f} s", FIRST_PAINT_S, met[0]),
        row("of it, `python -c 'import orz_cli.main'`", f"{bare:.2f} s"),
        row(f"line to screen at {LINES_PER_SECOND} lines a second, p50 of {len(waits)}", f"{p50:.3f} s"),
        row("the same, p99", f"{p99:.3f} s", LATENCY_P99_S, met[1]),
        row("the same, slowest", f"{waits[-1]:.3f} s"),
        row(f"share of a core over {IDLE_S} s of nothing", f"{idle:.3f}", IDLE_SHARE, met[2]),
    ]
    sys.stdout.write("\n".join(table) + "\n")
    if options.out:
        options.out.write_text(page(table), encoding="utf-8")
    return int(not all(met))


def row(what: str, measured: str, limit: float | None = None, met: bool | None = None) -> str:  # noqa: FBT001
    """Return a row of the table."""
    return (
        f"| {what} | {measured} | {'' if limit is None else limit} | {'' if met is None else 'yes' if met else 'no'} |"
    )


def write_log(path: Path, size: int) -> None:
    """Write a log of about `size` bytes: verl's step lines among what engines and workers say."""
    engines = "".join(f"(WorkerDict pid={pid}) INFO engine: running 12 requests, cache 34.5 %\n" for pid in range(200))
    block = "".join(
        f"(TaskRunner pid=7) step:@{step:03} - actor/pg_loss:{0.01 * step:.4f} - actor/entropy:0.5 - "
        f"critic/score/mean:0.{step:02} - response_length/mean:{800 + step}.5\n{engines}"
        for step in range(20)
    )
    with path.open("w", encoding="ascii") as file:
        number = 0
        while file.tell() < size:
            file.write(re.sub("@(...)", lambda match: str(20 * number + int(match[1])), block))  # noqa: B023 - used now
            number += 1
        file.write(LAST_LINE + "\n")


def first_paint(log: Path) -> float:
    """Return the seconds from the start of the process to a picture with the log's last line."""
    screen = Screen(log)
    seconds = screen.wait_for(LAST_LINE)
    screen.close()
    return seconds


def interpreter() -> float:
    """Return what Python and the `orz` command take to start."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import orz_cli.main"], check=True)
    return time.perf_counter() - begin


def latencies(log: Path, seconds: float) -> list[float]:
    """Write lines at an even pace, and return how long each took to be shown, or a later one in its place."""
    log.write_text("begin\n")
    screen = Screen(log)
    screen.wait_for("begin")
    written: list[float] = []
    stopping = threading.Event()

    def write() -> None:
        with log.open("a", buffering=1) as file:
            begin = time.perf_counter()
            while not stopping.is_set():
                number = len(written)
                time.sleep(max(0.0, begin + number / LINES_PER_SECOND - time.perf_counter()))
                written.append(time.perf_counter())
                values = f"step:{number // 100} - actor/pg_loss:0.{number % 97:02} - " if number % 100 == 0 else ""
                file.write(f"{values}mark {number} \n")

    writer = threading.Thread(target=write)
    writer.start()
    shown: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        marks = [int(mark) for mark in _MARK.findall(screen.read())]
        now = time.perf_counter()
        shown += [now - written[index] for index in range(len(shown), max(marks, default=-1) + 1)]
    stopping.set()
    writer.join()
    screen.close()
    if len(shown) < seconds * LINES_PER_SECOND / 2:
        raise SystemExit(f"void: {len(shown)} of {len(written)} lines were shown")
    return shown


def idle_share(log: Path) -> float:
    """Return the share of a core that following a log costs that nothing is written to."""
    screen = Screen(log)
    screen.wait_for("findings")
    settle = time.perf_counter() + 5
    while time.perf_counter() < settle:
        screen.read()
    before, until = processor_seconds(screen.process.pid), time.perf_counter() + IDLE_S
    while time.perf_counter() < until:
        screen.read()
    used = processor_seconds(screen.process.pid) - before
    screen.close()
    return used / IDLE_S


def processor_seconds(pid: int) -> float:
    """Return the processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def page(table: list[str]) -> str:
    """Return the page for benchmarks/results."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    made = f"Made by `python benchmarks/monitor_tail.py` on {datetime.now(UTC):%Y-%m-%d}, commit "
    made += f"{commit.stdout.strip() or 'unknown'}: {os.cpu_count()} cores, {platform.machine()}, "
    made += (
        f"Python {platform.python_version()}.\nMeasured on the screen of a pseudo-terminal; the file is in the page "
    )
    made += "cache."
    return "\n".join(["# `orz monitor tail`: first paint, latency, idle cost", "", made, "", *table, ""])


if __name__ == "__main__":
    sys.exit(main())
