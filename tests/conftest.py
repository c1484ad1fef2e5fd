"""What holds for all tests: no colours from the outside, no deadlines on shared machines, Ctrl-C that is heard."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from hypothesis import settings

CLUSTER = (
    "tests/e2e/test_train_cluster.py",
    "tests/e2e/ckpt/",
    "tests/component/train/cluster/",
    "tests/component/train/deepspeed/",
    "tests/component/train/vllm/",
    "tests/component/ckpt/cluster/test_ray_fleet.py",
)
"""Where ranks and engines are started. One such test alone keeps two processors busy, and some have time limits."""
TOGETHER = ("tests/component/ckpt/deepspeed/",)
"""Whose files one process takes: the ranks whose checkpoints they read are played once for all of them."""
LONGEST_FIRST = (*CLUSTER, "tests/e2e/", "tests/component/train/")
"""Of several processes, none should be left alone with these at the end."""

for variable in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"):
    os.environ.pop(variable, None)  # outputs are compared as text

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so a shell starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("orz", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("orz")


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """The store in memory, empty."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield store
    store.store.clear()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Let several processes take a file, or a folder of `TOGETHER`, at a time, and one all that is in `CLUSTER`."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415  who needs no processes need not have it

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(CLUSTER):
                return "cluster"
            whole = (folder for folder in TOGETHER if nodeid.startswith(folder))
            return next(whole, nodeid.partition("::")[0])

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first where several processes share the tests; who runs them alone sees the fast ones."""
    if hasattr(config, "workerinput"):
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    named = (number for number, prefix in enumerate(LONGEST_FIRST) if item.nodeid.startswith(prefix))
    return next(named, len(LONGEST_FIRST))
