"""The installation: which lock, which torch, and what stops it before gigabytes are downloaded."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(sys.platform == "win32", reason="stand-ins for programs are shell scripts"),
]

ROOT = Path(__file__).resolve().parents[3]
CPU, CUDA = ROOT / "requirements/cpu.txt", ROOT / "requirements/cuda.txt"


@pytest.fixture(scope="module")
def installer():
    """Return requirements/install.py as a module."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "requirements/install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Return a function that puts a program with this script on the path, the only one there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def locked_platform(monkeypatch):
    """Pretend to be on the platform of the locks."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


class TestCheckDriver:
    def test_a_driver_that_answers(self, installer, program, capsys):
        """A device that the driver names is shown."""
        program("nvidia-smi", "echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'")
        installer.check_driver()
        assert "the NVIDIA driver answers: GPU 0: NVIDIA H100 80GB HBM3\n" in capsys.readouterr().out

    @pytest.mark.parametrize("script", ["exit 9", "exit 0"], ids=["fails", "no device"])
    def test_a_driver_that_does_not_answer(self, installer, program, script):
        """A driver that fails, or has no device, stops the installation and says what to leave out."""
        program("nvidia-smi", script)
        with pytest.raises(
            installer.InstallError, match=r"none answers: nvidia-smi: exit code \d\n  -> leave --cuda out"
        ):
            installer.check_driver()

    @pytest.mark.usefixtures("program")
    def test_no_driver(self, installer):
        """Without nvidia-smi, likewise."""
        with pytest.raises(installer.InstallError, match="nvidia-smi is not on PATH"):
            installer.check_driver()


def pip_that_takes(program, version):
    """Return an interpreter whose pip would install this torch."""
    answer = json.dumps({"install": [{"metadata": {"name": "torch", "version": version}}]})
    return program("python", f"echo '{answer}'")


class TestTorch:
    def test_a_cuda_build_is_not_downloaded_for_the_cpu_lock(self, installer, program):
        """The line to add stands in the message, before anything is downloaded."""
        with pytest.raises(installer.InstallError) as caught:
            installer.before_torch(pip_that_takes(program, "2.13.0"), CPU)
        expected = (
            "pip takes torch 2.13.0, a CUDA build, and requirements/cpu.txt needs a CPU build\n"
            "  -> add PyTorch's index of CPU builds:  "
            "export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
        )
        assert expected == str(caught.value)

    @pytest.mark.parametrize(("version", "lock"), [("2.13.0+cpu", CPU), ("2.13.0", CUDA)])
    def test_a_build_that_fits_is_taken(self, installer, program, version, lock):
        """PyPI's build goes with the CUDA lock, PyTorch's +cpu with the CPU lock."""
        installer.before_torch(pip_that_takes(program, version), lock)

    def test_no_torch_at_all(self, installer, program):
        """A pip that finds none is an error, not a traceback."""
        with pytest.raises(installer.InstallError, match=r"no torch that fits requirements/cpu\.txt"):
            installer.before_torch(program("python", "exit 1"), CPU)

    @pytest.mark.parametrize(
        ("torch", "lock", "message"),
        [
            ("2.13.0+cu130 13.0", CPU, "a CUDA build, and requirements/cpu.txt needs a CPU build"),
            ("2.13.0+cpu cpu", CUDA, "a CPU build, and requirements/cuda.txt needs PyPI's CUDA build"),
        ],
    )
    def test_the_installed_build_has_the_last_word(self, installer, program, torch, lock, message):
        """Whatever pip announced, a torch that does not fit the lock stops the installation."""
        with pytest.raises(installer.InstallError, match=message):
            installer.check_torch(program("python", f"echo '{torch}'"), lock)

    @pytest.mark.parametrize(("torch", "lock"), [("2.13.0+cpu cpu", CPU), ("2.13.0+cu130 13.0", CUDA)])
    def test_an_installed_build_that_fits(self, installer, program, capsys, torch, lock):
        """The build is named."""
        installer.check_torch(program("python", f"echo '{torch}'"), lock)
        assert f"orz install: torch {torch.split()[0]}\n" == capsys.readouterr().out


class TestPlatform:
    def test_another_system(self, installer, monkeypatch):
        """On a Mac there is no lock; the line that installs what works there is named."""
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(installer.InstallError) as caught:
            installer.check_platform()
        lines = str(caught.value).splitlines()
        assert lines[0].startswith("the locks are for x86-64 Linux, this is CPython")
        assert lines[1].endswith(
            "-e packages/orz-ckpt -e packages/orz-cli -e packages/orz-monitor -e packages/orz-train"
        )

    @pytest.mark.usefixtures("locked_platform")
    def test_another_python(self, installer, monkeypatch):
        """Other Pythons are told which one is needed."""
        monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
        with pytest.raises(installer.InstallError, match=r"the locks are for CPython 3\.11"):
            installer.check_platform()


@pytest.mark.usefixtures("locked_platform")
def test_an_environment_that_is_up_to_date_is_left_alone(installer, tmp_path, capsys, monkeypatch):
    """With the stamp of its lock nothing is run; another lock, such as that of --cuda, makes it anew."""
    monkeypatch.setattr(sys, "version_info", (3, 11, 7, "final", 0))
    (tmp_path / installer.STAMP).write_text(installer.fingerprint(CPU))

    def make(folder):
        raise installer.InstallError(f"would make {folder}")

    monkeypatch.setattr(installer, "make_environment", make)
    installer.install(tmp_path, cuda=False)
    assert f"orz install: {tmp_path} is up to date" in capsys.readouterr().out
    (tmp_path / installer.STAMP).write_text(installer.fingerprint(CUDA))
    with pytest.raises(installer.InstallError, match="would make"):
        installer.install(tmp_path, cuda=False)


@pytest.mark.usefixtures("locked_platform")
def test_the_command_line_shows_no_traceback(installer, tmp_path, monkeypatch):
    """An error leaves with its message and the next step."""
    monkeypatch.setattr(sys, "version_info", (3, 12, 1, "final", 0))
    monkeypatch.setattr(sys, "argv", ["install.py", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        installer.main()
    assert str(caught.value).startswith("error: the locks are for CPython 3.11")
