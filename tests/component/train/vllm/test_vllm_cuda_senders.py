"""What can be seen of the GPU paths without a GPU: how ranks are numbered, and what a rank that doesn't send does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.component

SCRIPT = """
import json
import torch
from orz_train.backends.vllm.engine import VLLMEngine
from orz_train.backends.weights.bucket import ParamMeta
from orz_train.backends.weights.cuda import GatheredWeights, connect

class FakeLLM:
    def get_world_size(self):
        return 2
    def collective_rpc(self, method, kwargs):
        calls.append([method, kwargs])

calls = []
for index in range(2):
    engine = VLLMEngine(FakeLLM(), None, shapes={"a": (2, 3)}, index=index)
    engine.init_transfer({"rank_offset": 1, "world_size": 5})
engine.start_update()
update = {"names": ["a"], "dtype_names": ["bfloat16"], "shapes": [[2, 3]]}
engine.receive(update)

class Policy:
    sender = None
    gathered = 0
    def params(self):
        return [ParamMeta(name, "float32", (2, 3)) for name in "ab"]
    def weights(self, group_bytes):
        assert group_bytes == 64
        for name in "ab":
            self.gathered += 1
            group = [(name, torch.zeros(2, 3))]
            yield group
            assert group == []

class Engines:
    version = -1

policy = Policy()
connect(policy, transfer="nccl", engines=Engines(), rank=1, address="127.0.0.1", num_workers=4, bucket_bytes=64)
policy.sender.send(1)
policy.sender.send(2)
[meta, _] = GatheredWeights(policy, group_bytes=64).metadata()
print("\\n" + json.dumps([calls, policy.gathered, [meta.name, str(meta.dtype), meta.shape]]))
"""

PORT = """
import socket
from vllm.distributed.utils import StatelessProcessGroup
from orz_train.backends.weights.cuda import reserved_port

with reserved_port("127.0.0.1") as port:
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError as error:
            print("refused:", error.strerror)
    group = StatelessProcessGroup.create("127.0.0.1", port, rank=0, world_size=1)
    assert group.store.port == port
group.barrier()
print("met")
"""


def test_the_port_is_kept_for_vllm() -> None:
    """Another program can't take it, vLLM's own way of meeting can; and goes on when the place is no longer kept."""
    done = subprocess.run([sys.executable, "-c", PORT], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert ["refused: Address already in use", "met"] == done.stdout.splitlines()[-2:]


def test_ranks_and_gathering() -> None:
    """Two engines of two workers have ranks 1, 2 and 3, 4; a rank that doesn't send gathers too, and keeps nothing."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    calls, gathered, meta = json.loads(done.stdout.splitlines()[-1])
    assert ["init_weight_transfer_engine", {"init_info": {"rank_offset": 1, "world_size": 5}}] == calls[0]
    assert ["init_weight_transfer_engine", {"init_info": {"rank_offset": 3, "world_size": 5}}] == calls[1]
    assert ["start_weight_update", "update_weights"] == [name for name, _ in calls[2:]]
    assert 4 == gathered, "two groups for each update"
    assert meta == ["a", "torch.float32", [2, 3]]
