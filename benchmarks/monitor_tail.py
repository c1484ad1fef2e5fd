"""How soon `orz monitor tail` shows something of a large log, and a line that was just written; what it costs idle.

    python benchmarks/monitor_tail.py [--bytes 1000000000] [--seconds 20] [--out FILE.md]

Everything is measured from outside, on the screen of a pseudo-terminal: the first paint from the start of the
process, the interpreter's start included, to the picture with the log's last line; a line from the moment before its
`write` to the picture that shows it or a later one. The first paint is one process that waits for nothing: on a
machine that does other things, too, its processor time tells what it costs, the wall clock how long others were first.
Both are taken when the bytes of the picture arrive: what the process does from then on, and what it takes here to draw
them, is not of the first paint. Our packages are compiled, as pip leaves them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pyte
from arms import compile_packages
from result_page import Measured, made_by, write_measured

INTRODUCTION = """\
Measured on the screen of a pseudo-terminal; the file is in the page cache. Paints are the median of {repeats}."""
FIRST_PAINT_S = 0.3
LATENCY_P99_S = 0.5
IDLE_SHARE = 0.02
REPEATS = 5
LINES_PER_SECOND = 1000
IDLE_S = 10
LAST_LINE = "the very last line of this log"
_MARK = re.compile(r"mark (\d+)")


class Screen:
    """`orz monitor tail` on a pseudo-terminal of 80 by 24.

    Attributes:
        process: the command.
        started: when it was started, seconds of `time.perf_counter`.
        arrived: when the last bytes came.
        processor_s: what the process had used by then, seconds.
    """

    def __init__(self, path: Path) -> None:
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        self.started = self.arrived = time.perf_counter()
        self.processor_s = 0.0
        command = ["-m", "orz_cli", "monitor", "tail", str(path)]
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.process = pexpect.spawn(sys.executable, command, dimensions=(24, 80), env=environment)

    def read(self, wait_s: float = 0.02) -> str:
        """Take what was drawn and return what the screen shows."""
        with contextlib.suppress(pexpect.TIMEOUT):
            data = self.process.read_nonblocking(1 << 16, wait_s)
            self.arrived, self.processor_s = time.perf_counter(), processor_seconds(self.process.pid)
            self._stream.feed(data)
        return "\n".join(self._screen.display)

    def wait_for(self, text: str, *, timeout_s: float = 120) -> float:
        """Wait until a text is shown; return the seconds since the start of the process."""
        while text not in self.read():
            if time.perf_counter() - self.started > timeout_s:
                raise SystemExit(f"void: {text!r} was never shown")
        return self.arrived - self.started

    def close(self) -> None:
        """End it."""
        self.process.close(force=True)


def main() -> int:
    """Write the page; return 1 beyond a limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, help="a Markdown file; by default stdout")
    options = parser.parse_args()
    compile_packages()
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "train.log"
        write_log(log, options.bytes)
        paint = sorted((first_paint(log) for _ in range(REPEATS)), key=lambda one: one.processor_s)[REPEATS // 2]
        log.unlink()
        bare = sorted(interpreter() for _ in range(REPEATS))[REPEATS // 2]
        waits = sorted(latencies(Path(name) / "live.log", options.seconds))
        idle = idle_share(Path(name) / "live.log")
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    start = f"first paint of {options.bytes / 1e9:.2g} GB, the start of Python included"
    pace = f"line to screen at {LINES_PER_SECOND} lines a second"
    measured = [
        Measured(what=f"{start}, processor time", value=paint.processor_s, unit="s", most=FIRST_PAINT_S),
        Measured(what="the same, wall clock", value=paint.wall_s, unit="s"),
        Measured(what="of it, `python -c 'import orz_cli.main'`, processor time", value=bare, unit="s"),
        Measured(what=f"{pace}, p50 of {len(waits)}", value=p50, unit="s", digits=3),
        Measured(what=f"{pace}, p99", value=p99, unit="s", digits=3, most=LATENCY_P99_S),
        Measured(what=f"{pace}, slowest", value=waits[-1], unit="s", digits=3),
        Measured(
            what=f"share of a core over {IDLE_S} s of nothing", value=idle, unit="cores", digits=3, most=IDLE_SHARE
        ),
    ]
    made = made_by("python benchmarks/monitor_tail.py", "rich")
    title = "First paint, latency and idle cost of orz monitor tail"
    return write_measured(title, f"{made}\n\n{INTRODUCTION.format(repeats=REPEATS)}", measured, options.out)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Paint:
    """What a first paint took, seconds."""

    processor_s: float
    wall_s: float


def first_paint(log: Path) -> Paint:
    """Return what it takes from the start of the process to a picture with the log's last line."""
    screen = Screen(log)
    wall_s = screen.wait_for(LAST_LINE)
    screen.close()
    return Paint(processor_s=screen.processor_s, wall_s=wall_s)


def interpreter() -> float:
    """Return the processor time that Python and the `orz` command take to start, seconds."""
    process = subprocess.Popen([sys.executable, "-c", "import orz_cli.main"])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


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

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    shown: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        marks = [int(mark) for mark in _MARK.findall(screen.read())]
        now, known = time.perf_counter(), len(written)
        newest = max((mark for mark in marks if mark < known), default=-1)  # a row may be half old and half new
        shown += [now - written[index] for index in range(len(shown), newest + 1)]
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


if __name__ == "__main__":
    sys.exit(main())
