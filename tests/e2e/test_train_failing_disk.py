"""A disk that fails while a run saves: the run does as `checkpoint.on_failure` says, and names disk and file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from orz_ckpt.inventory import list_checkpoints
from orz_monitor.records import EventRecord, read_records

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="`ulimit -f`, and a library that stands before the system's"),
]

SHORT = (
    "train",
    "quickstart-grpo",
    "backend=local",
    "steps=2",
    "prompts_per_step=4",
    "samples_per_prompt=2",
    "eval.every_steps=0",
    "checkpoint.every_steps=1",
    "logging.tensorboard=false",
    "--run-dir",
    "run",
)
ORZ = Path(sysconfig.get_path("scripts")) / "orz"
SHIM = Path(__file__).parents[1] / "component" / "ckpt" / "failing_calls.c"
LARGEST_KIB = 3500
"""Of a file: the weights have 2 MB, the optimizer's state 4."""


def trained(
    folder: Path, environment: dict[str, str], *more: str, before: str = "true"
) -> subprocess.CompletedProcess[str]:
    """Run a short training, after a command of the shell, in whose limits it lives."""
    return subprocess.run(
        ["bash", "-c", f'{before} && exec "$@"', "bash", ORZ, *SHORT, *more],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def warnings(run: Path) -> list[str]:
    """Return what the run's log warns of saves."""
    records = [line.record for line in read_records(run / "metrics.jsonl")]
    said = [str(one.data["message"]) for one in records if isinstance(one, EventRecord) and one.event == "warning"]
    return [message for message in said if "was not saved" in message]


def test_past_a_limit_the_run_goes_on(tmp_path: Path, environment: dict[str, str]) -> None:
    """The optimizer's state is larger than a file may be, as with a quota: a warning for each save, and exit 0."""
    settings = ("checkpoint.preflight=off", "checkpoint.on_failure=warn", "checkpoint.asynchronous=true")
    done = trained(tmp_path, environment, *settings, before=f"ulimit -f {LARGEST_KIB}")

    assert 0 == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    said = warnings(tmp_path / "run")
    assert 2 == len(said)
    for step, message in enumerate(said, start=1):
        assert message.startswith(f"{tmp_path}/run/checkpoints/step_00000{step} was not saved on ")
        assert "EFBIG: File too large: state/policy-optimizer.pt. " in message
        assert "the run goes on without it" in message
    assert [] == list((tmp_path / "run" / "checkpoints").iterdir())


def test_past_a_limit_it_is_tried_again(tmp_path: Path, environment: dict[str, str]) -> None:
    """The second try fails, too: then the run ends with the disk's error, not as a mistake of ours."""
    settings = ("checkpoint.preflight=off", "checkpoint.on_failure=retry", "checkpoint.retries=1")
    done = trained(tmp_path, environment, *settings, before=f"ulimit -f {LARGEST_KIB}")

    assert 1 == done.returncode, done.stderr
    assert "a bug in" not in done.stderr
    assert "EFBIG: File too large: state/policy-optimizer.pt" in done.stderr
    assert "free some space or raise the quota, then save again" in done.stderr
    assert ["trying again in 1 s (1 of 1)"] == [message.rpartition("; ")[2] for message in warnings(tmp_path / "run")]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled `failing_calls.c`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("this system has no C compiler")
    built = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, SHIM, "-ldl"], check=True)
    return built


@pytest.mark.parametrize("file", ["/state/policy-optimizer.pt", "/policy/model.safetensors", "/policy/tokenizer.json"])
def test_a_broken_disk(tmp_path: Path, environment: dict[str, str], shim: Path, file: str) -> None:
    """Writes of one file answer EIO, of whichever library: a warning for each save, and exit 0."""
    broken = {"LD_PRELOAD": str(shim), "ORZ_FAIL_CALL": "write", "ORZ_FAIL_PATH": file}
    done = trained(tmp_path, environment | broken, "checkpoint.on_failure=warn")

    assert 0 == done.returncode, done.stderr
    said = warnings(tmp_path / "run")
    assert 2 == len(said)
    assert all("was not saved on " in message and "EIO: " in message for message in said), said
    assert [] == list_checkpoints(tmp_path / "run")
