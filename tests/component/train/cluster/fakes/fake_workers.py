"""Plain objects for workers, without any model: what they answer follows from their arguments alone."""

# ruff: noqa: T201  # what they print goes to their logs

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
import warnings
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orz_ckpt.manifest import FileEntry
from orz_train.backends.vllm.processes import EndedProcess
from orz_train.backends.weights.bucket import Bucket, ParamMeta, checksum, pack_bucket, unpack_bucket
from orz_train.errors import NonFiniteError
from orz_train.types import FinishReason, Last, Mean, Metric, Rollout, Sum

RANK = {"rank": 0, "world_size": 1}


def join(rank: int, world_size: int, master_address: str, master_port: int, *, cpu: bool, timeout_s: float) -> None:
    RANK.update(rank=rank, world_size=world_size)
    print(f"rank {rank} of {world_size} meets at {master_address}:{master_port}", flush=True)


class FakeModel:
    """Scores rows by their first token; its weights are a vector that an update moves."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.rank = RANK["rank"]
        self.vector = torch.full((8,), 0.5)
        self.calls: list[str] = []

    def logprobs(self, rows: list[Any]) -> list[torch.Tensor]:
        return [torch.where(row.action_mask_T, -self.vector[0], 0.0) for row in rows]

    def values(self, rows: list[Any]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(row.token_ids_T.float(), torch.full((len(row.seq_lens_S),), float(self.rank))) for row in rows]

    def update(self, rows: list[Any], weights: list[torch.Tensor]) -> list[Metric]:
        self.vector = self.vector + 0.5
        metrics = [Metric(f"{self.role}/loss", Mean(float(weights_K.sum()), 1)) for weights_K in weights]
        metrics.append(Metric("tokens/rows", Sum(len(rows))))
        return [*metrics, Metric(f"{self.role}/lr", Last(0.5))] if self.rank == 0 else metrics

    def save(self, folder: Path) -> dict[str, FileEntry]:
        if self.rank == 0:
            (folder / "model").write_text(str(self.vector.tolist()))
        return {"model": FileEntry(size=1, digest="0" * 64)} if self.rank == 0 else {}

    def save_state(self, folder: Path) -> dict[str, FileEntry]:
        (folder / f"{self.role}-rank-{self.rank}").write_text("state")
        return {f"{self.role}-rank-{self.rank}": FileEntry(size=5, digest="0" * 64)}

    def finish_snapshot(self, timeout_s: float | None) -> dict[str, FileEntry]:
        """Say that weights differ from rank to rank, and the configuration does not."""
        entry = FileEntry(size=1, digest="0" * 64)
        return {"config.json": entry, "model": replace(entry, size=2 + self.rank), f"rank-{self.rank}": entry}

    def writing_ended(self, timeout_s: float) -> bool:
        return True

    def load_state(self, folder: Path) -> None:
        assert (folder / f"{self.role}-rank-{self.rank}").read_text() == "state"

    def params(self) -> list[ParamMeta]:
        return [ParamMeta(f"p{index}", "float32", (4,)) for index in range(2)]

    def bucket(self, names: list[str]) -> Bucket | None:
        if self.rank:
            return None
        return pack_bucket([(name, self.vector[4 * int(name[1:]) :][:4]) for name in names])

    def offload(self) -> None:
        self.calls.append("offload")

    def onload(self) -> None:
        self.calls.append("onload")

    def ran_on(self) -> str:
        return "fake ranks"

    # --- what can go wrong ------------------------------------------------------------------------

    def pid(self) -> int:
        return os.getpid()

    def environment(self, name: str) -> str | None:
        return os.environ.get(name)

    def start_child(self) -> int:
        return subprocess.Popen(["sleep", "600"], start_new_session=True).pid

    def share_memory(self) -> str:
        self.memory = SharedMemory(create=True, size=1000)
        return self.memory.name

    def collective(self, seconds: float) -> None:
        """Wait for the others, as a rank does in a collective."""
        print(f"{self.role} {self.rank} in a collective", flush=True)
        time.sleep(seconds)

    def lose_peer(self, rank: int, seconds: float) -> None:
        """Be a rank whose peer dies: `rank` kills itself after a while, the others lose the connection before."""
        if self.rank == rank:
            time.sleep(seconds)
            print("about to die", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234")

    def fail(self, text: str) -> None:
        raise KeyError(text)

    def fail_with_remedy(self) -> None:
        raise NonFiniteError("all is lost", remedy="begin again")

    def warn(self) -> str:
        logging.getLogger("orz_train.backends.fake").warning("the learning rate is %s", "odd")
        logging.getLogger("somebody.else").warning("not ours")
        return "done"

    def unclosable(self) -> None:
        self.close = lambda: time.sleep(600)


def load_policy(config: Any, *, num_steps: int, checkpoint: Path | None) -> FakeModel:
    return FakeModel("policy")


def load_critic(config: Any, *, num_steps: int, checkpoint: Path | None) -> FakeModel:
    return FakeModel("critic")


def load_reference(config: Any) -> FakeModel:
    return FakeModel("reference")


def load_broken(config: Any, *, num_steps: int, checkpoint: Path | None) -> FakeModel:
    raise NonFiniteError("the model is broken", remedy="take another")


def load_never(config: Any, *, num_steps: int, checkpoint: Path | None) -> FakeModel:
    print("compiling for ever", flush=True)
    time.sleep(600)
    raise AssertionError


class FakeEngine:
    """Samples the prompt's first token; its log-prob is what the loaded weights say."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.weights: dict[str, torch.Tensor] = {}
        self.policy_version = -1
        self.log: list[str] = []

    def generate(self, prompts: list[Any], sampling: Any, *, step: int) -> Any:
        for group_index, prompt in prompts:
            yield [
                Rollout(
                    rollout_id=f"{step}/{group_index}/{sample}",
                    prompt_id=prompt.prompt_id,
                    group_index=group_index,
                    token_ids=(*prompt.token_ids, self.index, 1),
                    prompt_len=len(prompt.token_ids),
                    sampler_logprobs=(-float(self.weights["p0"][0]),) * 2,
                    finish=FinishReason.STOP,
                    policy_version=self.policy_version,
                    text="",
                )
                for sample in range(sampling.num_samples)
            ]

    def dawdle(self, seconds: float) -> Any:
        print("thinking", flush=True)
        time.sleep(seconds)
        yield "a result"

    def init_transfer(self, info: dict[str, Any]) -> None:
        self.log.append("init")

    def start_update(self) -> None:
        self.log.append("start")

    def load(self, bucket: Bucket) -> None:
        assert not bucket.data.flags.owndata  # it lies in shared memory
        assert bucket.crc32 == checksum(bucket)
        self.log.append(",".join(param.name for param in bucket.params))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the memory is read-only
            self.weights |= {name: tensor.clone() for name, tensor in unpack_bucket(bucket)}

    def finish_update(self, version: int) -> None:
        self.log.append(f"finish {version}")
        self.policy_version = version

    def history(self) -> list[str]:
        return self.log

    def ran_on(self) -> str:
        return "fake engines"

    def pid(self) -> int:
        return os.getpid()

    def sleep(self) -> None:
        return

    def wake(self, tags: Any = None) -> None:
        return


class DeafEngine(FakeEngine):
    """Forgets what it is sent."""

    def load(self, bucket: Bucket) -> None:
        self.weights = {"p0": torch.from_numpy(np.full(4, 9.0, dtype=np.float32))}


class ParallelEngine(FakeEngine):
    """Has a process besides, as an engine with tensor parallelism has."""

    def watch_processes(self, report: Any) -> None:
        self.child = subprocess.Popen(["sleep", "600"])

        def wait() -> None:
            code = self.child.wait()
            report(EndedProcess(name="VllmWorker-1", pid=self.child.pid, exit_code=code))

        threading.Thread(target=wait, daemon=True).start()

    def lose_process(self) -> None:
        """Lose it, and say what vLLM then says."""
        self.child.kill()
        raise RuntimeError("cancelled")


def load_parallel_engine(config: Any, *, index: int) -> ParallelEngine:
    return ParallelEngine(index)


def load_engine(config: Any, *, index: int) -> FakeEngine:
    return FakeEngine(index)


def load_deaf_engine(config: Any, *, index: int) -> FakeEngine:
    return DeafEngine(index)
