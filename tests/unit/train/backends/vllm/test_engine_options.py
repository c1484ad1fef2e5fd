"""What a configuration says to an engine."""

from __future__ import annotations

from typing import Any

import pytest

from orz_train.backends.vllm.environment import engine_environment
from orz_train.backends.vllm.options import OWNED, engine_options, transfer_backend
from orz_train.config.schema import Config
from orz_train.errors import ConfigError

pytestmark = pytest.mark.unit


def config(*, temperature: float = 1.0, eval_temperature: float = 1.0, **cluster: Any) -> Config:
    return Config.model_validate(
        {
            "name": "test",
            "seed": 2**32 + 5,
            "steps": 1,
            "prompts_per_step": 4,
            "samples_per_prompt": 4,
            "data": {"source": "unused:unused", "max_prompt_tokens": 100},
            "generation": {"max_response_tokens": 28, "max_sequences": 7, "temperature": temperature},
            "eval": {"temperature": eval_temperature},
            "policy": {"model": "some/model", "dtype": "bfloat16", "optimizer": {"lr": 1e-3}},
            "packing": {"max_tokens_per_row": 512},
            "cluster": cluster,
        }
    )


def test_settings_become_arguments() -> None:
    """Each under vLLM's name; weights and sampling defaults never come from the model's folder."""
    options = engine_options(config(num_gpus=0), model="/models/m")
    expected = {
        "model": "/models/m",
        "dtype": "bfloat16",
        "max_model_len": 128,
        "max_num_seqs": 7,
        "seed": 5,
        "trust_remote_code": False,
        "load_format": "dummy",
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "enable_sleep_mode": False,
        "distributed_executor_backend": "uni",
    }
    assert expected == {name: options[name] for name in expected}
    assert "gpu_memory_utilization" not in options


def test_gpus_change_the_arguments() -> None:
    """Graphs are captured, memory is shared by sleeping where roles share GPUs, workers are processes of the engine."""
    options = engine_options(config(num_gpus=2, tensor_parallel=2, gpu_memory_utilization=0.4), model="m")
    assert (False, True, "mp", 2, 0.4) == (
        options["enforce_eager"],
        options["enable_sleep_mode"],
        options["distributed_executor_backend"],
        options["tensor_parallel_size"],
        options["gpu_memory_utilization"],
    )
    assert not engine_options(config(num_gpus=2, layout="split"), model="m")["enable_sleep_mode"]


def test_further_arguments_pass_through() -> None:
    """They win over our defaults."""
    options = engine_options(
        config(num_gpus=0, engine_options={"enforce_eager": False, "max_num_batched_tokens": 99}), model="m"
    )
    assert options["enforce_eager"] is False
    assert options["max_num_batched_tokens"] == 99


@pytest.mark.parametrize("name", sorted(OWNED))
def test_what_a_setting_decides_is_refused(name: str) -> None:
    """With the setting to use instead, if there is one."""
    with pytest.raises(ConfigError, match=rf"cluster\.engine_options\.{name}: ") as caught:
        engine_options(config(num_gpus=0, engine_options={name: 1}), model="m")
    assert (OWNED[name] or "remove it") in caught.value.remedy


@pytest.mark.parametrize("name", ["generation", "eval"])
def test_a_temperature_that_vllm_refuses_is_refused_before(name: str) -> None:
    """It takes up to 2."""
    key = {"generation": "temperature", "eval": "eval_temperature"}[name]
    engine_options(config(num_gpus=0, **{key: 2.0}), model="m")
    with pytest.raises(ConfigError, match=rf"{name}\.temperature: 2\.1 "):
        engine_options(config(num_gpus=0, **{key: 2.1}), model="m")


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({"num_gpus": 0}, "host"),
        ({"num_gpus": 1}, "ipc"),
        ({"num_gpus": 2, "layout": "split"}, "nccl"),
        ({"num_gpus": 2, "layout": "split", "weights": {"transfer": "host"}}, "host"),
    ],
)
def test_auto_takes_the_shortest_way(cluster: dict[str, Any], expected: str) -> None:
    """Host memory without GPUs, IPC on shared GPUs, NCCL between GPUs."""
    assert expected == transfer_backend(config(**cluster))


def test_the_environment_keeps_an_engine_at_home() -> None:
    """One process, no statistics, no network, no unsafe pickles, the threads that the configuration says."""
    variables = engine_environment(config(num_gpus=0, num_threads=3, kv_cache_gib=2), {})
    expected = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "3",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "TORCHDYNAMO_DISABLE": "1",
    }
    assert expected == {name: variables[name] for name in expected}


def test_the_environment_follows_the_user_and_the_device() -> None:
    """HF_HUB_OFFLINE as the user set it; nothing about CPUs on a GPU; compilation where it is asked for."""
    assert engine_environment(config(num_gpus=0), {"HF_HUB_OFFLINE": "0"})["HF_HUB_OFFLINE"] == "0"
    assert not any("CPU" in name or "DYNAMO" in name for name in engine_environment(config(num_gpus=1), {}))
    compiled = config(num_gpus=0, engine_options={"enforce_eager": False})
    assert "TORCHDYNAMO_DISABLE" not in engine_environment(compiled, {})
