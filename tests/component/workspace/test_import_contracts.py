"""The import contracts of pyproject.toml: they hold, and each of them catches what it is for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[3]


def lint_imports(folder):
    """Check the contracts of a workspace in `folder`."""
    sources = os.pathsep.join(map(str, sorted(folder.glob("packages/*/src"))))
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": sources}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, check=False, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a copy of the sources and of pyproject.toml."""
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for source in ROOT.glob("packages/*/src"):
        shutil.copytree(source, folder / source.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_contracts_hold():
    """The packages as they are keep every contract."""
    answer = lint_imports(ROOT)
    assert 0 == answer.returncode, answer.stdout


@pytest.mark.parametrize("package", ["orz_train", "orz_ckpt"])
def test_a_module_without_a_layer_is_caught(workspace, package):
    """A new module has to take its place among the layers of its package."""
    path = workspace / "packages" / package.replace("_", "-") / "src" / package / "stranger.py"
    path.touch()
    try:
        answer = lint_imports(workspace)
    finally:
        path.unlink()
    assert 1 == answer.returncode
    assert f"{package}.stranger" in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("orz-cli/src/orz_cli/versions.py", "import orz_ckpt", "Packages:"),
        ("orz-ckpt/src/orz_ckpt/manifest.py", "import orz_monitor", "Packages:"),
        ("orz-monitor/src/orz_monitor/series.py", "import orz_train", "Packages:"),
        ("orz-train/src/orz_train/collect.py", "import orz_monitor.series", "Of orz-monitor"),
        ("orz-train/src/orz_train/types.py", "import orz_train.ports", "orz_train: top may import down"),
        ("orz-train/src/orz_train/data/packing.py", "import orz_train.rewards", "orz_train: top may import down"),
        ("orz-train/src/orz_train/backends/hf/loading.py", "import orz_train.backends.local", "orz_train.backends"),
        ("orz-train/src/orz_train/launch.py", "import transformers", "transformers has one door"),
        ("orz-ckpt/src/orz_ckpt/formats/hf.py", "import orz_ckpt.checks.files", "orz_ckpt: top may import down"),
        ("orz-ckpt/src/orz_ckpt/checks/files.py", "import orz_ckpt.readers", "orz_ckpt: top may import down"),
        ("orz-ckpt/src/orz_ckpt/copy/run.py", "import orz_ckpt.merge.run", "orz_ckpt: top may import down"),
        ("orz-ckpt/src/orz_ckpt/manifest.py", "import numpy", "The contracts between the packages"),
        ("orz-train/src/orz_train/algorithm.py", "import transformers", "Maths and controller"),
        ("orz-train/src/orz_train/algo/kl.py", "def f():\n    import vllm", "Maths and controller"),
        ("orz-train/src/orz_train/types.py", "import torch", "No torch"),
        ("orz-train/src/orz_train/config/base.py", "import torch", "No torch"),
        ("orz-train/src/orz_train/rewards/pool.py", "import torch", "No torch"),
        ("orz-monitor/src/orz_monitor/series.py", "import torch", "No torch"),
        ("orz-train/src/orz_train/__init__.py", "import pydantic", "orz_train itself"),
    ],
)
def test_a_forbidden_import_is_caught(workspace, module, line, contract):
    """One forbidden import breaks its contract, and the message names it."""
    path = workspace / "packages" / module
    original = path.read_text()
    path.write_text(f"{original}\n{line}\n")
    try:
        answer = lint_imports(workspace)
    finally:
        path.write_text(original)
    assert 1 == answer.returncode
    broken = " ".join(answer.stdout.partition("Broken contracts")[2].split())
    assert contract in broken
