"""The workspace as a whole: one version, one licence, locks that fit the packages."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[3]
PROJECTS = {
    path.parent.name: tomllib.loads(path.read_text()) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
}
LOCKS = ("cpu.txt", "cuda.txt", "dev.txt")
LEFT_OUT = ("torchaudio", "torchcodec", "torchvision")
ENVIRONMENT = {"python_version": "3.11", "sys_platform": "linux", "platform_machine": "x86_64"}


def pins(lock):
    """Return the versions of a lock by canonical name."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements" / lock).read_text().splitlines()]
    return dict(line.split("==") for line in lines if line)


def requirements(project, extra=""):
    """Return what a package requires, the orz packages left out."""
    table = project["project"]
    lines = [*table["dependencies"], *table.get("optional-dependencies", {}).get(extra, [])]
    return [requirement for line in lines if not (requirement := Requirement(line)).name.startswith("orz-")]


def test_one_version_for_all():
    """The four packages, their modules and their requirements of each other name one version."""
    versions = {project["project"]["version"] for project in PROJECTS.values()}
    modules = {importlib.import_module(name.replace("-", "_")).__version__ for name in PROJECTS}
    among_each_other = {
        line.partition("==")[2]
        for project in PROJECTS.values()
        for line in project["project"]["dependencies"]
        if line.startswith("orz-")
    }
    assert 4 == len(PROJECTS)
    assert versions == modules == among_each_other
    assert 1 == len(versions)


@pytest.mark.parametrize("name", PROJECTS)
def test_package_tables_agree(name):
    """All packages state the same licence and Pythons, and are typed for their users."""
    table = PROJECTS[name]["project"]
    assert ("MIT", ">=3.11") == (table["license"], table["requires-python"])
    assert (ROOT / "packages" / name / "src" / name.replace("-", "_") / "py.typed").is_file()


@pytest.mark.parametrize(("lock", "extra"), [("cpu.txt", "cpu"), ("cuda.txt", "cuda")])
@pytest.mark.parametrize("name", PROJECTS)
def test_locks_fit_the_packages(name, lock, extra):
    """Each requirement of each package is pinned in the lock, to a version that it admits."""
    locked = pins(lock)
    for requirement in requirements(PROJECTS[name], extra):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked to {version}"


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_are_exact_and_nothing_else(lock):
    """Every line is one exact pin: no index, no path, no URL, and none of the packages that break transformers."""
    lines = (ROOT / "requirements" / lock).read_text().splitlines()
    strange = [line for line in lines if not re.fullmatch(r"#.*|[a-z0-9-]+==[a-z0-9.+]+(  # for [a-z0-9, .-]+)?", line)]
    assert [] == strange
    assert set() == set(LEFT_OUT) & set(pins(lock))


@pytest.mark.parametrize("lock", ["cpu.txt", "cuda.txt"])
def test_dev_lock_fits_beside_the_others(lock):
    """What dev.txt and another lock both pin, they pin to the same version, so the order of installation is free."""
    dev, other = pins("dev.txt"), pins(lock)
    shared = set(dev) & set(other)
    assert {name: other[name] for name in shared} == {name: dev[name] for name in shared}


def test_every_test_module_has_one_tier():
    """Each test module carries one tier's marker for the whole file; what it needs or proves may join it."""
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    tiers = {marker.partition(":")[0] for marker in markers} - {"cluster", "full", "gpu", "invariance"}
    untiered = [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob("tests/**/test_*.py"))
        if 1 != len(tiers & module_markers(path))
    ]
    assert [] == untiered


def module_markers(path):
    """Return the names in the module's `pytestmark`."""
    for statement in ast.parse(path.read_text()).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="pytestmark")]):
                return {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
    return set()
