"""What holds for all tests: no colours from the outside, no deadlines on shared machines, Ctrl-C that is heard."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

LONGEST_FIRST = ("tests/e2e/test_train_cluster.py", "tests/e2e/test_train.py", "tests/e2e", "tests/component/train")
"""Files that take minutes: of several processes, none should be left alone with one of them at the end."""

for variable in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "COLUMNS"):
    os.environ.pop(variable, None)  # outputs are compared as text

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so a shell starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("orz", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("orz")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first where several processes share the tests; who runs them alone sees the fast ones."""
    if hasattr(config, "workerinput"):
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    named = (number for number, prefix in enumerate(LONGEST_FIRST) if item.nodeid.startswith(prefix))
    return next(named, len(LONGEST_FIRST))
