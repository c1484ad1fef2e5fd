"""A pseudo-terminal with `orz` in it and what its screen shows, a real browser, and a run that failed."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pexpect
import pyte
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from orz_monitor.records import EventRecord
from orz_monitor.testing import healthy_metrics, step_records, write_run

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
        before = len(self.raw)
        while self.read() and len(self.raw) > before:  # the rest of the picture
            before = len(self.raw)
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


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    """A run that failed, with a finding."""
    metrics = healthy_metrics(60)
    metrics["policy/kl_ref"][50] = np.inf
    began = time.time() - 125
    start = EventRecord(event="start", time=began, data={"steps": 120})
    failed = EventRecord(event="error", time=began + 121, step=59, data={"message": "out of memory"})
    return write_run(tmp_path / "sick", [start, *step_records(metrics, start=began), failed], finished=False)


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


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium, headless; skip by name where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        # A container has neither the sandbox's privileges nor much of /dev/shm.
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        running = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        yield running
        running.close()


class Visit:
    """A page in the browser, with what it logged and asked the network for."""

    def __init__(self, browser: Browser, **options: object) -> None:
        self.context: BrowserContext = browser.new_context(**options)  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._take_message)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._take_request)

    def _take_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _take_request(self, request: Request) -> None:
        self.requests.append(request.url)


OpenPage = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser) -> Iterator[OpenPage]:
    """Open pages, each in a browser profile of its own."""
    opened: list[Visit] = []

    def go(**options: object) -> Visit:
        opened.append(Visit(browser, **options))
        return opened[-1]

    yield go
    for one in opened:
        one.context.close()
