"""The facts about a machine that `orz doctor` judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """An installed Python package.

    Example:
        Package(version="2.13.0", build="cu130")
    """

    version: str
    """As its metadata says; PyPI's wheels leave the build out of it."""
    build: str = ""
    """What it was built for ("cpu", "cu130", ...); empty where it does not say."""

    @property
    def is_cuda(self) -> bool:
        """Say whether it is a CUDA build."""
        return self.build.startswith("cu")

    @property
    def release(self) -> str:
        """Return the version without the build."""
        return self.version.partition("+")[0]

    def __str__(self) -> str:
        return f"{self.release} ({self.build})" if self.build else self.release


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One NVIDIA device, as its driver names it."""

    name: str
    memory_bytes: int
    driver: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What was found. The defaults describe a machine on which nothing is at odds."""

    python: str = "3.11.7"
    platform: str = "linux"
    """As `sys.platform` names it."""
    architecture: str = "x86_64"
    num_cores: int = 2
    packages: Mapping[str, Package] = field(default_factory=dict)
    """Installed packages by name; one that is missing here is not installed."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """Versions of Ray, vLLM and DeepSpeed that the installed orz-train asks for, by package."""
    broken_commands: tuple[tuple[str, str], ...] = ()
    """Reason and remedy for each `orz` command that cannot be loaded."""
    gpus: tuple[Gpu, ...] = ()
    driver_problem: str = ""
    """Why nvidia-smi is installed but does not answer; empty where it answers or is not installed."""
    programs: Mapping[str, str] = field(default_factory=dict)
    """Programs on PATH by name, with their paths."""
    cpu_flags: frozenset[str] | None = None
    """Instruction sets as Linux names them; None where the system does not tell."""
    shm_bytes: int | None = None
    """Size of /dev/shm; None where there is none."""
    memory_bytes: int | None = None
    """Main memory that processes may take; None where the system does not tell."""
    free_memory_bytes: int | None = None
    """What of it is free, or held by caches that give way."""
    ray_temp_dir: str = "/tmp/ray"  # noqa: S108  Ray's own default, only compared in length
    work_dir: str = "."
    free_bytes: int | None = None
    """Free disk at `work_dir`; None where the system does not tell."""

    def has(self, *names: str) -> bool:
        """Say whether all of these packages are installed."""
        return all(name in self.packages for name in names)
