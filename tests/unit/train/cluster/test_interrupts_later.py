"""What ends a run waits until Ray is up or has failed."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from orz_train.cluster.ray_init import _interrupts_later
from orz_train.signals import ENDING

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def arrived() -> Iterator[list[int]]:
    """Take the signals; put the handlers back."""
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _frame: came.append(number)) for one in ENDING}
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


def test_these_end_a_run() -> None:
    """Ctrl-C, a scheduler, a closed terminal."""
    assert (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) == ENDING


@pytest.mark.parametrize("number", ENDING)
def test_each_waits(arrived: list[int], number: int) -> None:
    """It arrives after the context, not inside."""
    with _interrupts_later():
        signal.raise_signal(number)
        assert [] == arrived
    assert [number] == arrived


def test_what_nohup_ignores_stays_ignored() -> None:
    """Ray's processes start inside, and inherit only what is ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with _interrupts_later():
        assert signal.SIG_IGN is signal.getsignal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
