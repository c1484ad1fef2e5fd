"""The report of a run that goes on, made anew when somebody asks and something has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from orz_cli.errors import OrzError, UsageError
from orz_monitor.engine import Verdict, judge
from orz_monitor.report.content import gather, verdict_words
from orz_monitor.report.data import as_data
from orz_monitor.report.escape import escaped
from orz_monitor.report.html import body_of, page
from orz_monitor.run import Run
from orz_monitor.serve.exposition import exposition
from orz_monitor.tail.judging import Judging
from orz_monitor.tail.source import Source

_POLL_S: Final = 0.25


class LiveReport:
    """Follows a source in a thread and answers what a page or Prometheus asks. Safe to ask from any thread.

    Args:
        source: what is followed.
        judge_run: what judges; the rules by default.
    """

    def __init__(self, source: Source, judge_run: Callable[[Run], Verdict] = judge) -> None:
        self._judge_run = judge_run
        self._source = source
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._stopping = threading.Event()
        self._verdict: Verdict | None = None
        self._version = 0
        self._failure = ""
        self._crash: Exception | None = None
        self._body: tuple[int, str] = (-1, "")
        self._thread = threading.Thread(target=self._follow, name="orz-serve-follow", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following and close the files; nothing can be asked for any more.

        Whoever still asks waits until the process ends. A thread that draws at that moment, in numpy's C++, would make
        it abort instead of exiting.
        """
        self._stopping.set()
        self._thread.join()
        self._drawing.acquire()
        self._source.close()

    def raise_crash(self) -> None:
        """Raise what ended the following, if anything did, so that no old page is taken for a new one."""
        if self._crash is not None:
            raise self._crash

    def state(self) -> dict[str, object]:
        """Return what a page asks for again and again: which version there is, and what is being waited for."""
        with self._lock:
            return {
                "v": 1,
                "version": self._version,
                "title": self._title(),
                "notice": self._failure or self._source.notice,
            }

    def page(self) -> str:
        """Return the page, with the newest body in it."""
        body = self.body()
        with self._lock:
            word = self._word()
        return page(self._source.title, word, body, live=True)

    def body(self) -> str:
        """Return what the page shows, made once for each version."""
        with self._drawing:
            with self._lock:
                verdict, version = self._verdict, self._version
            if self._body[0] != version:
                self._body = version, body_of(gather(verdict)) if verdict is not None else self._waiting()
            return self._body[1]

    def data(self) -> str | None:
        """Return the report as JSON; None before there is a run."""
        with self._drawing:
            verdict = self._verdict
            return as_data(gather(verdict)) if verdict is not None else None

    def metrics(self) -> bytes:
        """Return the run in Prometheus' text format."""
        with self._drawing:
            return exposition(self._verdict)

    def _title(self) -> str:
        """Return the title of the browser's tab."""
        word = self._word()
        return f"{self._source.title}: {word}"

    def _word(self) -> str:
        """Return the verdict in a word."""
        return verdict_words(self._verdict)[0] if self._verdict is not None else "waiting"

    def _waiting(self) -> str:
        """Draw a page without a run."""
        return f"<header><h1>{escaped(self._source.title)}</h1></header>"

    def _follow(self) -> None:
        """Read and judge until stopped; what fails is raised where it can end the command."""
        judging = Judging(self._source, self._judge_run)
        try:
            self._follow_with(judging)
        except Exception as error:  # noqa: BLE001 - passed on, whatever it is
            self._crash = error
        finally:
            judging.rest()

    def _follow_with(self, judging: Judging) -> None:
        """Read and judge until stopped."""
        while not self._stopping.is_set():
            try:
                busy = self._source.poll()
                self._failure = ""
            except UsageError:  # a dialect of the user's: no look at the file again will help
                raise
            except OrzError as error:
                busy, self._failure = False, str(error)
            judging.offer()
            if judging.verdict is not None and judging.verdict is not self._verdict:
                with self._lock:
                    self._verdict, self._version = judging.verdict, self._version + 1
            if not busy:
                self._stopping.wait(_POLL_S)
