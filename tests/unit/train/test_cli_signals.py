"""Which signals end a run."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from orz_train import cli

pytestmark = pytest.mark.unit

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Put the handlers back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_scheduler_and_a_closed_terminal_end_a_run_as_ctrl_c_does() -> None:
    """Both raise KeyboardInterrupt."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    cli._end_as_by_ctrl_c()
    assert [signal.default_int_handler] * 2 == [signal.getsignal(number) for number in SIGNALS]


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    """SIGHUP was ignored when the command started, and stays so."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cli._end_as_by_ctrl_c()
    assert [signal.default_int_handler, signal.SIG_IGN] == [signal.getsignal(number) for number in SIGNALS]
