"""Makes the environment of this workspace: `python requirements/install.py FOLDER [--cuda]`; the nox sessions call it.

The steps, in this order because each needs the one before: a virtual environment; torch, whose build has to fit the
lock; everything else of the lock; the checks of dev.txt; the four packages, editable. An environment that is up to date
is left as it is, one of another lock is made anew, so that it never holds more than the lock says.

Runs on CPython 3.11 with nothing installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DEV_LOCK = HERE / "dev.txt"
STAMP = "orz-locks.sha256"

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of CPU builds. Its 2.13.0+cpu outranks the 2.13.0 of PyPI, which is a CUDA build."""

BUILD_ENVIRONMENT = {"DS_ACCELERATOR": "cpu"}
"""DeepSpeed's build looks for nvcc when it sees a GPU. No operator is built at install time, so it need not look."""


class InstallError(Exception):
    """The environment cannot be made; says why, and the line to add."""


def main() -> None:
    """Parse the command line and make the environment."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the virtual environment")
    parser.add_argument("--cuda", action="store_true", help="take the lock for NVIDIA GPUs")
    arguments = parser.parse_args()
    try:
        install(arguments.folder.resolve(), cuda=arguments.cuda)
    except InstallError as error:
        sys.exit(f"error: {error}")


def install(folder: Path, *, cuda: bool) -> None:
    """Make the environment in `folder`, or leave it where it is up to date.

    Raises:
        InstallError: no such environment can be made here.
    """
    lock = HERE / ("cuda.txt" if cuda else "cpu.txt")
    say(f"requirements/{lock.name}{'' if cuda else ', for CPUs; --cuda takes that for NVIDIA GPUs'}")
    if cuda:
        check_driver()
    check_platform()
    stamp = folder / STAMP
    wanted = fingerprint(lock)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        say(f"{folder} is up to date")
        return
    started = time.monotonic()
    python = make_environment(folder)
    step("1/4 torch")
    before_torch(python, lock)
    pip(python, "install", "--constraint", str(lock), "torch", "setuptools")
    check_torch(python, lock)
    step(f"2/4 the other packages of {lock.name} (one to three minutes)")
    pip(python, "install", "--no-deps", "--no-build-isolation", "--requirement", str(lock))
    step("3/4 the checks: dev.txt")
    pip(python, "install", "--no-deps", "--requirement", str(DEV_LOCK))
    step("4/4 the four orz packages")
    packages = [argument for path in projects() for argument in ("--editable", str(path.parent))]
    pip(python, "install", "--no-deps", "--no-build-isolation", *packages)
    stamp.write_text(wanted, encoding="utf-8")
    say(f"{folder} is ready after {time.monotonic() - started:.0f} s")


def check_platform() -> None:
    """Stop where the locks do not apply."""
    here = f"CPython {sys.version.split()[0]} on {sys.platform} {platform.machine()}"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        packages = " ".join(f"-e {path.parent.relative_to(ROOT)}" for path in projects())
        message = (
            f"the locks are for x86-64 Linux, this is {here}\n"
            f"  -> for backend=local, without locks: python3.11 -m pip install {packages}"
        )
        raise InstallError(message)
    if sys.version_info[:2] != (3, 11):
        message = f"the locks are for CPython 3.11, this is {here}\n  -> python3.11 requirements/install.py FOLDER"
        raise InstallError(message)


def check_driver() -> None:
    """Stop where no NVIDIA driver answers: the CUDA build of vLLM runs on nothing else."""
    program = shutil.which("nvidia-smi")
    if program is None:
        found = "nvidia-smi is not on PATH"
    else:
        try:
            answer = subprocess.run([program, "--list-gpus"], capture_output=True, check=False, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            found = str(error)
        else:
            if answer.returncode == 0 and answer.stdout.strip():
                say(f"the NVIDIA driver answers: {answer.stdout.strip().splitlines()[0].partition(' (UUID')[0]}")
                return
            found = f"nvidia-smi: exit code {answer.returncode}"
    message = f"--cuda needs an NVIDIA driver, and none answers: {found}\n  -> leave --cuda out to run on CPUs"
    raise InstallError(message)


def projects() -> list[Path]:
    """Return the pyproject.toml of each package."""
    return sorted(ROOT.glob("packages/*/pyproject.toml"))


def fingerprint(lock: Path) -> str:
    """Return a digest of all that decides what the environment holds."""
    digest = hashlib.sha256(f"{sys.version} {ROOT}".encode())
    compiled = sorted(ROOT.glob("packages/*/hatch_build.py")) + sorted(ROOT.glob("packages/*/src/**/*.c"))
    for path in (lock, DEV_LOCK, Path(__file__).resolve(), *projects(), *compiled):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_environment(folder: Path) -> Path:
    """Make an empty virtual environment and return its interpreter."""
    say(f"making {folder}")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=False)
    if made.returncode:
        message = "python -m venv failed\n  -> on Debian and Ubuntu: apt-get install python3.11-venv"
        raise InstallError(message)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def before_torch(python: Path, lock: Path) -> None:
    """Ask pip which torch it would take, before it downloads gigabytes of a build that does not fit."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--report", "-"]
    answer = subprocess.run(
        [*command, "--constraint", str(lock), "torch"], check=False, stdout=subprocess.PIPE, text=True
    )
    if answer.returncode:
        message = f"pip finds no torch that fits requirements/{lock.name}"
        raise InstallError(message)
    version = json.loads(answer.stdout)["install"][0]["metadata"]["version"]
    if lock.name == "cpu.txt" and not version.endswith("+cpu"):
        raise InstallError(cuda_build_under_cpu_lock(version))


def check_torch(python: Path, lock: Path) -> None:
    """Stop where torch's build does not fit the lock."""
    probe = "import torch; print(torch.__version__, torch.version.cuda or 'cpu')"
    answer = subprocess.run([str(python), "-c", probe], check=True, stdout=subprocess.PIPE, text=True)
    version, build = answer.stdout.split()
    say(f"torch {version}")
    if lock.name == "cpu.txt" and build != "cpu":
        raise InstallError(cuda_build_under_cpu_lock(version))
    if lock.name == "cuda.txt" and build == "cpu":
        message = (
            f"pip took torch {version}, a CPU build, and requirements/cuda.txt needs PyPI's CUDA build\n"
            "  -> leave PyTorch's CPU index out of pip's settings (`pip config list`, PIP_EXTRA_INDEX_URL, "
            "PIP_FIND_LINKS), or add --cpu to run without the GPU: nox -s quickstart -- --cpu"
        )
        raise InstallError(message)


def cuda_build_under_cpu_lock(version: str) -> str:
    """Say how to come by a CPU build of torch."""
    return (
        f"pip takes torch {version}, a CUDA build, and requirements/cpu.txt needs a CPU build\n"
        f"  -> add PyTorch's index of CPU builds:  export PIP_EXTRA_INDEX_URL={TORCH_CPU_INDEX}"
    )


def pip(python: Path, *arguments: str) -> None:
    """Run pip in the environment, its output on ours.

    Raises:
        InstallError: pip failed; its own message stands above.
    """
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, check=False, env={**os.environ, **BUILD_ENVIRONMENT}).returncode:
        message = f"pip failed: {' '.join(command[1:])}"
        raise InstallError(message)


def step(title: str) -> None:
    """Announce a step."""
    say(f"--- {title}")


def say(line: str) -> None:
    """Tell the user where the installation is."""
    sys.stdout.write(f"orz install: {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
