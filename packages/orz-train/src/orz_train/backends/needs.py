"""What a backend needs before it starts. Nothing heavy is imported here, so that a dry run is quick."""

from __future__ import annotations

from importlib.util import find_spec

from orz_cli.doctor.probes import TORCH_CPU_INDEX
from orz_train.backends.vllm.options import engine_options
from orz_train.config.schema import Config
from orz_train.errors import BackendMissingError

CLUSTER_PACKAGES = ("ray", "vllm", "deepspeed")
"""What `backend: cluster` imports."""


def check_backend(config: Config) -> None:
    """Check that the packages of the run's backend are here, and what it tells them; another is never taken instead.

    Raises:
        BackendMissingError: a package isn't installed.
        ConfigError: an engine option isn't the user's to set.
    """
    if config.backend == "local":
        return
    engine_options(config, model=config.policy.model)
    missing = [name for name in CLUSTER_PACKAGES if find_spec(name) is None]
    if missing:
        extra = (
            "'orz-train[cuda]'" if config.cluster.num_gpus else f"--extra-index-url {TORCH_CPU_INDEX} 'orz-train[cpu]'"
        )
        raise BackendMissingError(
            f"backend: cluster needs {', '.join(CLUSTER_PACKAGES)}; not installed: {', '.join(missing)}",
            remedy=f"pip install {extra}; or train a small model in one process: backend=local",
        )
