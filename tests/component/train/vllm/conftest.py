"""Engines in processes of their own, and what to compare them with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from orz_train.backends import hf
from orz_train.backends.vllm.environment import engine_environment
from orz_train.backends.weights.bucket import NAMES, Bucket, ParamMeta, pack_bucket, plan_buckets
from orz_train.config.schema import Config
from orz_train.data.packing import Packing, pack
from orz_train.ports import Sampling
from orz_train.testing import write_tiny_model
from orz_train.types import Prompt, Rollout

MAX_RESPONSE = 24
SAMPLING = {"max_tokens": MAX_RESPONSE, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "stop": (), "stop_token_ids": ()}


class RemoteEngine:
    """Calls a `VLLMEngine` in another process; what it raises there is raised here."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.folder = str(hf.local_folder(config.policy.model))
        self.tokenizer = hf.load_tokenizer(self.folder)
        self.log = folder / "engine.log"
        with Listener(str(folder / "socket")) as listener, self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("engine_process.py")), str(listener.address)],
                env=os.environ | engine_environment(config),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            self.connection: Connection = listener.accept()

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method, or `load_engine`."""
        try:
            self.connection.send((name, args, kwargs))
            worked, result = self.connection.recv()
        except (EOFError, OSError):
            pytest.fail(f"the engine's process died:\n{self.log.read_text()[-4000:]}")
        if not worked:
            raise result
        return result

    def prompts(self, texts: Sequence[str]) -> list[tuple[int, Prompt]]:
        """Number prompts."""
        return [
            (index, Prompt(prompt_id=f"p{index}", text=text, token_ids=tuple(self.tokenizer.encode(text)), answer=""))
            for index, text in enumerate(texts)
        ]

    def rollouts(self, prompts: Sequence[tuple[int, Prompt]], *, step: int = 1, **sampling: Any) -> list[Rollout]:
        """Generate, sorted by id."""
        settings = Sampling(**{**SAMPLING, "num_samples": 4, "seed": 1, **sampling})
        batches = self.call("generate", prompts, settings, step=step)
        return sorted((rollout for batch in batches for rollout in batch), key=lambda rollout: rollout.rollout_id)

    def push(self, model: nn.Module, *, version: int, max_bytes: int = 2**30) -> int:
        """Send a model's weights; return how many buckets it took."""
        buckets = buckets_of(model, max_bytes)
        self.call("start_update")
        for bucket in buckets:
            self.call("load", bucket)
        self.call("finish_update", version)
        return len(buckets)

    def gap(self, rollouts: Sequence[Rollout], model: nn.Module, *, temperature: float = 1.0) -> float:
        """Return the mean distance of the sampler's log-probs from a Hugging Face forward pass."""
        gaps = []
        for row in pack(list(rollouts), Packing(max_tokens=512)):
            logprobs_T = hf.policy_logprobs(model, row, temperature=temperature, num_ids=self.tokenizer.vocab_size)
            gaps.append((row.sampler_logprobs_T - logprobs_T)[row.action_mask_T].abs())
        return float(torch.cat(gaps).mean())

    def model(self) -> nn.Module:
        """Load the model as Hugging Face has it."""
        return hf.load_causal_lm(self.folder, dtype=self.config.policy.dtype)

    def belongings(self) -> tuple[list[psutil.Process], list[Path]]:
        """Return the processes of the engine, and what they have in shared memory."""
        root = psutil.Process(self.process.pid)
        family = [root, *root.children(recursive=True)]
        maps = "".join(Path(f"/proc/{process.pid}/maps").read_text() for process in family)
        return family, [Path(name) for name in set(re.findall(r"/dev/shm/\S+", maps))]  # noqa: S108  # only read


def buckets_of(model: nn.Module, max_bytes: int) -> list[Bucket]:
    """Pack a model's weights."""
    named = dict(model.named_parameters())
    params = [ParamMeta(name, NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in named.items()]
    return [
        pack_bucket([(param.name, named[param.name]) for param in bucket]) for bucket in plan_buckets(params, max_bytes)
    ]


@pytest.fixture(scope="session")
def write_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a tiny model with heads of 32, the smallest that vLLM takes on a CPU."""
    return lambda **over: write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", hidden=128, **over)


@pytest.fixture(scope="session")
def engine_config() -> Callable[..., Config]:
    """Make a configuration; keywords are settings of the cluster, save `dtype`."""

    def make(model: Path | str, *, dtype: str = "float32", **cluster: Any) -> Config:
        return Config.model_validate(
            {
                "name": "test",
                "steps": 1,
                "prompts_per_step": 4,
                "samples_per_prompt": 4,
                "algorithm": "grpo",
                "data": {"source": "unused:unused", "max_prompt_tokens": 400},
                "generation": {"max_response_tokens": MAX_RESPONSE, "max_sequences": 32},
                "policy": {"model": str(model), "dtype": dtype, "optimizer": {"lr": 1e-3}},
                "packing": {"max_tokens_per_row": 512},
                "cluster": {"num_gpus": 0, **cluster},
            }
        )

    return make


@pytest.fixture(scope="module")
def start_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Config], RemoteEngine]]:
    """Start engines, 10 s each; they end with the module."""
    started: list[RemoteEngine] = []

    def start(config: Config) -> RemoteEngine:
        started.append(RemoteEngine(config, tmp_path_factory.mktemp("engine")))
        started[-1].call("load_engine", config, index=0)
        started[-1].call("init_transfer", {})
        return started[-1]

    yield start
    for engine in started:
        engine.connection.close()
    for engine in started:
        engine.process.wait(timeout=120)


@pytest.fixture(scope="session")
def buckets() -> Callable[[nn.Module, int], list[Bucket]]:
    """Pack a model's weights into buckets of at most so many bytes."""
    return buckets_of


@pytest.fixture(scope="session")
def shake() -> Callable[[nn.Module, int], nn.Module]:
    """Change every weight of a model, as an optimizer step does, only more."""

    def shake(model: nn.Module, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_((torch.randn(parameter.shape, generator=generator) * 0.02).to(parameter.dtype))
        return model

    return shake
