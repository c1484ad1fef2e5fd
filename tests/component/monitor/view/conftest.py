"""A pseudo-terminal with `orz` in it, and what its screen shows."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pexpect = pytest.importorskip("pexpect", reason="pexpect is not installed: no pseudo-terminal")
pyte = pytest.importorskip("pyte", reason="pyte is not installed: no terminal emulator")

TIMEOUT_S = 60


class Terminal:
    """A process in a pseudo-terminal, and the screen that it has drawn."""

    def __init__(self, arguments: list[str], *, columns: int, lines: int, environment: dict[str, str]) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "orz_cli", *arguments],
            dimensions=(lines, columns),
            env={**os.environ, "TERM": "xterm-256color", **environment},
            timeout=TIMEOUT_S,
        )

    @property
    def text(self) -> str:
        """What the screen shows."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def read(self, wait_s: float = 0.05) -> bool:
        """Take what was drawn; False once the process has ended."""
        try:
            data = self.process.read_nonblocking(1 << 16, wait_s)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self.stream.feed(data)
        return True

    def wait_for(self, shown: str | Callable[[str], bool]) -> str:
        """Wait until the screen shows a text, or satisfies a condition; return what it shows then."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (shown in self.text if isinstance(shown, str) else shown(self.text)):
            assert time.monotonic() < deadline, f"never shown: {shown}\n{self.text}"
            assert self.read() or shown in self.text, f"ended before it showed {shown}\n{self.text}"
        return self.text

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the terminal."""
        self.screen.resize(lines, columns)
        self.screen.reset()
        self.process.setwinsize(lines, columns)

    def end(self) -> int:
        """Wait for the end of the process and return its exit code, as a shell would."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.read():
            assert time.monotonic() < deadline, f"it does not end\n{self.text}"
        self.process.close()
        signal = self.process.signalstatus
        return int(self.process.exitstatus if signal is None else 128 + signal)


OpenTerminal = Callable[..., Terminal]


@pytest.fixture
def terminal() -> Iterator[OpenTerminal]:
    """Start `orz` commands in pseudo-terminals; none of them outlives the test."""
    opened: list[Terminal] = []

    def start(*arguments: str | Path, columns: int = 80, lines: int = 24, **environment: str) -> Terminal:
        opened.append(
            Terminal([str(word) for word in arguments], columns=columns, lines=lines, environment=environment)
        )
        return opened[-1]

    yield start
    for one in opened:
        one.process.close(force=True)
