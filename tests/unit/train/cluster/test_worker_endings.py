"""What the parent of a worker writes, and what the driver reads."""

from __future__ import annotations

import signal

import pytest

from orz_train.cluster.reaper import describe, find_ending

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("status", "out_of_memory", "words"),
    [
        (signal.SIGKILL, False, "by signal 9 (SIGKILL)"),
        (signal.SIGKILL, True, "by signal 9 (SIGKILL); its node ran out of memory at that time"),
        (signal.SIGSEGV, True, "by signal 11 (SIGSEGV)"),
        (40, False, "by signal 40 (a real-time signal)"),
        (3 << 8, False, "with exit status 3"),
    ],
)
def test_a_wait_status_in_words(status: int, out_of_memory: bool, words: str) -> None:
    """A signal has its name; only a SIGKILL is put down to a lack of memory."""
    assert words == describe(status, out_of_memory=out_of_memory)


def test_the_last_ending_of_a_log_counts() -> None:
    """A resumed run writes to the same log, which then holds several endings."""
    log = (
        "noise\norz-train: policy rank 0, process 7, ended at 100.500 with exit status 1\nmore\n"
        "orz-train: policy rank 0, process 8, ended at 200.250 by signal 9 (SIGKILL)\n"
    )
    ending = find_ending(log)
    assert ending is not None
    assert (8, 200.25, "by signal 9 (SIGKILL)") == (ending.pid, ending.at, ending.how)
    assert find_ending("no word about it\n") is None
