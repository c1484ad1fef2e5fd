"""What a backend needs before it starts. Nothing heavy is imported here, so that a dry run is quick."""

from __future__ import annotations

from importlib.util import find_spec

from orz_cli.doctor.machine import Machine
from orz_cli.doctor.probes import torch_companions
from orz_cli.doctor.survey import packages, pinned_versions
from orz_cli.installing import install_line
from orz_cli.versions import installed_versions
from orz_train.backends.vllm.options import engine_options
from orz_train.config.schema import Config
from orz_train.errors import BackendMissingError

CLUSTER_PACKAGES = ("ray", "vllm", "deepspeed")
"""What `backend: cluster` imports."""


def check_backend(config: Config) -> None:
    """Check that the packages of the run's backend are here, and what it tells them; another is never taken instead.

    Raises:
        BackendMissingError: a package isn't installed, or beside torch is one that models can't be imported with.
        ConfigError: an engine option isn't the user's to set.
    """
    for finding in torch_companions(Machine(packages=packages())):
        raise BackendMissingError(finding.message, remedy=finding.remedy)
    if config.backend == "local":
        return
    engine_options(config, model=config.policy.model)
    missing = [name for name in CLUSTER_PACKAGES if find_spec(name) is None]
    if missing:
        raise BackendMissingError(
            f"backend: cluster needs {', '.join(CLUSTER_PACKAGES)}; not installed: {', '.join(missing)}",
            remedy=_remedy(config),
        )


def other_versions(config: Config) -> list[str]:
    """Name the installed packages of the run's backend that aren't of the version that orz-train is made for."""
    if config.backend == "local":
        return []
    pins = pinned_versions()
    return [
        f"{name} {version} (expected {pins[name]})"
        for name, version in installed_versions(pins).items()
        if version is not None and version.partition("+")[0] != pins[name]
    ]


def not_importable(config: Config, error: Exception) -> BackendMissingError:
    """Return the error of a backend whose packages are there and can't be imported."""
    others = other_versions(config)
    found = f"; of other versions than orz-train is made for: {', '.join(others)}" if others else ""
    spec = find_spec("ray")
    place = f"; ray is {spec.origin}" if spec is not None and spec.origin is not None else ""
    reason = str(error).strip().partition("\n")[0]
    return BackendMissingError(
        f"backend: cluster can't be imported: {type(error).__name__}: {reason}{place}{found}",
        remedy=f"see `orz doctor`; {_remedy(config)}",
    )


def _remedy(config: Config) -> str:
    line = install_line(cuda=config.cluster.num_gpus > 0)
    return f"{line}; or train a small model in one process: backend=local"
