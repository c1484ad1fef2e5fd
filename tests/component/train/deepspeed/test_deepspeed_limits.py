"""How long ranks wait for each other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.component

SCRIPT = """
import sys
import torch
from deepspeed import comm
from deepspeed.utils import groups
from orz_train.backends.deepspeed.process import join, leave

join(0, 1, "127.0.0.1", int(sys.argv[1]), cpu=True, timeout_s=30)
cpu = torch.device("cpu")
for group in (torch.distributed.group.WORLD, groups._get_data_parallel_group()):
    print(group._get_backend(cpu).options._timeout)
leave()
"""


def test_the_limit_of_the_start_is_not_that_of_the_run() -> None:
    """Neither in torch's group nor in the one that ZeRO uses: a slow write of a checkpoint mustn't end a run."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(port)],
        env=os.environ | {"DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert ["2:00:00", "2:00:00"] == done.stdout.splitlines()[-2:]
