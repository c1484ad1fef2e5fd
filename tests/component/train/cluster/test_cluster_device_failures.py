"""Engines that fail while the policy's ranks send them weights, with vLLM's own senders on devices that are files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from orz_train.cluster.errors import WorkerDiedError
from orz_train.errors import WeightTransferError

pytestmark = pytest.mark.component


def test_an_engine_that_fails_is_heard_while_the_sender_waits(load_on_files: Any, tmp_path: Path) -> None:
    """The sender is in a collective that the engine never joins; the driver has the engine's own error at once."""
    with load_on_files(tmp_path, "nccl", num_ranks=1, engine="load_refusing_engine") as models:
        began = time.monotonic()
        with pytest.raises(WeightTransferError, match=r"p1: expected shape \[4\], got \[5\]"):
            models.weights.push(version=0)
        assert time.monotonic() - began < 20, "long before anybody gives up"


def test_an_engine_that_dies_is_named(load_on_files: Any, tmp_path: Path) -> None:
    """Not the rank that lost it."""
    with (
        load_on_files(tmp_path, "ipc", num_ranks=1, engine="load_dying_engine") as models,
        pytest.raises(WorkerDiedError, match=r"engine 1 .* ended by signal 9 \(SIGKILL\)"),
    ):
        models.weights.push(version=0)
