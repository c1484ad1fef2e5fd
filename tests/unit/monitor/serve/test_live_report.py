"""A live report ends without leaving a thread in the middle of its work, and never shows an old page for a new one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orz_monitor.engine import Verdict, judge
from orz_monitor.run import Run
from orz_monitor.serve import live as live_module
from orz_monitor.serve.live import LiveReport
from orz_monitor.serve.server import ReportServer
from orz_monitor.tail.source import Source
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

TIMEOUT_S = 30


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with Source(write_run(tmp_path, step_records(healthy_metrics(5)))) as source:
        yield source


def wait_until_judged(live: LiveReport) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not live.state()["version"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_stopping_waits_for(live: LiveReport, go: threading.Event) -> None:
    """Stop a report in whose threads something waits to be let go; it must not end before, and end then."""
    stopping = threading.Thread(target=live.stop)
    stopping.start()
    stopping.join(0.2)
    assert stopping.is_alive()
    go.set()
    stopping.join(TIMEOUT_S)
    assert not stopping.is_alive()


def test_stopping_waits_for_a_judgement(source: Source) -> None:
    """A thread that the interpreter has to end while it is in numpy's C++ aborts the whole process."""
    judging, go = threading.Event(), threading.Event()
    daemons: list[bool] = []

    def slowly(run: Run) -> Verdict:
        daemons.append(threading.current_thread().daemon)
        judging.set()
        go.wait(TIMEOUT_S)
        return judge(run)

    live = LiveReport(source, slowly)
    live.start()
    assert judging.wait(TIMEOUT_S)
    assert_stopping_waits_for(live, go)
    assert [False] == daemons
    assert not [thread for thread in threading.enumerate() if thread.name == "orz-judging"]


def test_stopping_waits_for_a_page_and_lets_no_other_begin(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers are daemons, so that an idle browser keeps no server alive."""
    drawing, go, drawn = threading.Event(), threading.Event(), []

    def slowly(content: object) -> str:
        del content
        drawing.set()
        go.wait(TIMEOUT_S)
        drawn.append(True)
        return "page"

    monkeypatch.setattr(live_module, "body_of", slowly)
    live = LiveReport(source)
    live.start()
    wait_until_judged(live)
    browser = threading.Thread(target=live.body, daemon=True)
    browser.start()
    assert drawing.wait(TIMEOUT_S)
    assert_stopping_waits_for(live, go)
    for ask in (live.body, live.data, live.metrics):
        late = threading.Thread(target=ask, daemon=True)
        late.start()
        late.join(0.05)
        assert late.is_alive()
    assert [True] == drawn


def test_what_ends_the_following_ends_the_server(source: Source) -> None:
    """Instead of a last page that looks like a new one."""

    def fail(_run: Run) -> Verdict:
        raise ZeroDivisionError("a bug")

    live = LiveReport(source, fail)
    with ReportServer(live) as server:
        live.start()
        with pytest.raises(ZeroDivisionError, match="a bug"):
            server.serve_forever(poll_interval=0.01)
        live.stop()
