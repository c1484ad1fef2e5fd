"""From the line of a log to the finding: the right rule, with the file and the line that say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_cli.findings import Severity
from orz_monitor.dialects.fault_shapes import KINDS
from orz_monitor.judge import Judge
from orz_monitor.loading import load_run
from orz_monitor.run import State

pytestmark = pytest.mark.component

STEPS = [f"step:{i} - actor/pg_loss:0.5 - critic/score/mean:0.25" for i in range(5)]
BEGIN = "Traceback (most recent call last):\n"
ERROR, WARN = Severity.ERROR, Severity.WARN
FAULTS = {
    "cuda_oom": ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory", ERROR),
    "host_oom": ("slurmstepd: error: Detected 1 oom_kill event in StepId=1.0", "out_of_memory", ERROR),
    "ray_oom": ("(raylet) 1 Workers (tasks / actors) killed due to memory pressure (OOM)", "out_of_memory", ERROR),
    "kv_oom": (f"{BEGIN}ValueError: No available memory for the cache blocks.", "out_of_memory", ERROR),
    "cuda_error": ("RuntimeError: CUDA error: an illegal memory access was encountered", "crash", ERROR),
    "nccl_timeout": (
        "[rank3]:[E321 02:07:08.4 ProcessGroupNCCL.cpp:607] [Rank 3] Watchdog caught collective operation timeout: x",
        "hang",
        ERROR,
    ),
    "segfault": ("Fatal Python error: Segmentation fault", "crash", ERROR),
    "disk_full": ("OSError: [Errno 28] No space left on device", "crash", ERROR),
    "slurm_limit": ("slurmstepd: error: *** JOB 1 ON n CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***", "killed", WARN),
    "signal": ("torch.distributed.elastic.multiprocessing.api.SignalException: got signal: 15", "killed", WARN),
    "port_taken": (f"{BEGIN}OSError: [Errno 98] error while binding: Address already in use", "crash", ERROR),
    "engine_dead": ("vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.", "crash", ERROR),
    "actor_died": ("ray.exceptions.ActorDiedError: The actor died unexpectedly.", "crash", ERROR),
    "exit_code": ("srun: error: node1: task 0: Exited with exit code 1", "crash", ERROR),
}
"""Kind of fault to the lines that tell of it, the last of which is pointed to, the rule, and how bad it is."""


def test_every_kind_of_fault_has_a_finding(tmp_path: Path) -> None:
    """Kinds are those of the dialect; the finding names the rule, the log, the line and its words."""
    assert set(FAULTS) | {"traceback", "no_resources"} == set(KINDS)
    for kind, (line, code, severity) in FAULTS.items():
        log = tmp_path / f"{kind}.log"
        log.write_text("\n".join([*STEPS, line, ""]))
        verdict = Judge.of()(load_run(log), log)
        finding = next((finding for finding in verdict.findings if finding.code == code), None)
        assert finding is not None, kind
        at = 6 + line.count("\n")
        assert (severity, log, at, 4) == (finding.severity, finding.file, finding.line, finding.first_step), kind
        assert line.split()[-1].rstrip(".") in finding.message, kind
        assert code == "crash" or "crash" not in {finding.code for finding in verdict.findings}, kind


def test_a_traceback_is_a_crash_at_the_line_of_its_exception(tmp_path: Path) -> None:
    """What ends the run is an error; the same traceback before further steps is not."""
    traceback = ["Traceback (most recent call last):", '  File "a.py", line 1, in <module>', "ValueError: too long"]
    log = tmp_path / "train.log"
    log.write_text("\n".join([*STEPS, *traceback, ""]))
    (finding,) = Judge.of()(load_run(log), log).findings
    assert ("crash", Severity.ERROR, 8) == (finding.code, finding.severity, finding.line)
    assert finding.message == "The run ended after step 4 with an error: ValueError: too long"
    log.write_text("\n".join([*STEPS[:2], *traceback, *STEPS[2:], ""]))
    assert Judge.of()(load_run(log), log).findings == ()
    log.write_text("\n".join([*traceback, ""]))
    assert load_run(log).kind.why == "no known metric tells its kind"  # and not that it trains no critic


@pytest.mark.parametrize(
    ("num_after", "found"),
    [
        (0, (Severity.ERROR, "The run ended after step 2 with an error: ValueError: bad")),
        (1, (Severity.WARN, "ValueError: bad. That was after step 2, and 1 step followed it.")),
        (2, (Severity.WARN, "ValueError: bad. That was after step 2, and 2 steps followed it.")),
        (3, None),
    ],
)
def test_an_error_that_steps_followed_did_not_end_the_run(
    tmp_path: Path, num_after: int, found: tuple[Severity, str] | None
) -> None:
    """With a step or two behind it, it is a warning that says so, and passed with the third; a crash with none."""
    log = tmp_path / "train.log"
    steps = [STEPS[0].replace("step:0", f"step:{i}") for i in range(3 + num_after)]
    log.write_text("\n".join([*steps[:3], BEGIN + "ValueError: bad", steps[2], *steps[3:], ""]))
    run = load_run(log)
    assert (State.UNFINISHED if num_after else State.FAILED) is run.state
    assert ([("crash", *found, 5)] if found else []) == [
        (finding.code, finding.severity, finding.message, finding.line) for finding in Judge.of()(run, log).findings
    ]


def test_of_errors_that_steps_followed_the_cause_is_told(tmp_path: Path) -> None:
    """An actor that died of a kernel's failure is not the reason."""
    log = tmp_path / "train.log"
    died = "ray.exceptions.ActorDiedError: The actor died unexpectedly."
    log.write_text("\n".join([*STEPS[:4], died, "RuntimeError: CUDA error: misaligned address", STEPS[4], ""]))
    (finding,) = Judge.of()(load_run(log), log).findings
    assert ("crash", Severity.WARN, 6) == (finding.code, finding.severity, finding.line)


def test_a_signal_that_a_step_followed_says_so(tmp_path: Path) -> None:
    """It did not stop the run."""
    log = tmp_path / "train.log"
    log.write_text("\n".join([*STEPS[:4], "Killed", STEPS[4], ""]))
    (finding,) = Judge.of()(load_run(log), log).findings
    assert ("killed", Severity.WARN, "Killed. 1 step followed it.") == (finding.code, finding.severity, finding.message)


@pytest.mark.parametrize(
    ("last_words", "code"),
    [("ValueError: too long", "crash"), ("torch.OutOfMemoryError: CUDA out of memory.", "out_of_memory")],
)
def test_an_error_after_the_finish_is_a_warning(tmp_path: Path, last_words: str, code: str) -> None:
    """All steps were done; that actors die then is not even a warning."""
    finish = "Final validation metrics: {'val/test_score/x': 0.5}"
    log = tmp_path / "train.log"
    log.write_text("\n".join([*STEPS, finish, BEGIN + '  File "a.py", line 1, in <module>', last_words, ""]))
    (finding,) = Judge.of()(load_run(log), log).findings
    assert (code, Severity.WARN, 9) == (finding.code, finding.severity, finding.line)
    log.write_text("\n".join([*STEPS, finish, "ray.exceptions.ActorDiedError: x", "Killed", ""]))
    assert Judge.of()(load_run(log), log).findings == ()


def test_a_response_that_reads_like_a_signal_ends_nothing(tmp_path: Path) -> None:
    """Steps go on after it."""
    log = tmp_path / "train.log"
    log.write_text("\n".join([*STEPS[:1], "Killed", *STEPS[1:], ""]))
    assert Judge.of()(load_run(log), log).findings == ()


def test_waiting_for_devices_is_told_without_any_step(tmp_path: Path) -> None:
    """The autoscaler's line, in a log that has nothing else."""
    log = tmp_path / "train.log"
    log.write_text("(autoscaler +2m30s) Error: No available node types can fulfill resource request {'GPU': 8.0}.\n")
    (finding,) = Judge.of()(load_run(log), log).findings
    assert ("waiting", "The run waits for devices", 1) == (finding.code, finding.title, finding.line)


def test_waiting_for_devices_after_the_last_step_is_a_warning(tmp_path: Path) -> None:
    """A wait that a further step followed has passed."""
    wait = "(autoscaler +2m30s) Error: No available node types can fulfill resource request {'GPU': 8.0}."
    log = tmp_path / "train.log"
    log.write_text("\n".join([*STEPS, wait, wait, ""]))
    (finding,) = Judge.of()(load_run(log), log).findings
    assert ("waiting", Severity.WARN, 6, 4) == (finding.code, finding.severity, finding.line, finding.first_step)
    log.write_text("\n".join([*STEPS[:-1], wait, STEPS[-1], ""]))
    assert Judge.of()(load_run(log), log).findings == ()


@pytest.mark.parametrize(
    ("line", "code", "title"),
    [
        ("Training failed at step 5 with ValueError: too long", "crash", "The run failed"),
        ("Training failed at step 5 with OutOfMemoryError: CUDA out of memory. Tried to", "out_of_memory", ""),
        ("Training failed at step 5 with OutOfMemoryError: ", "out_of_memory", "A device ran out of memory"),
        ("RuntimeError: The server socket has failed to listen. port: 29500, EADDRINUSE", "crash", "A port was in use"),
    ],
)
def test_an_error_without_a_traceback_fails_the_run(tmp_path: Path, line: str, code: str, title: str) -> None:
    """SkyRL's last words, which name what failed, and a port in use; no crash where the run goes on."""
    log = tmp_path / "train.log"
    log.write_text("\n".join([*STEPS, line, ""]))
    (finding,) = Judge.of()(load_run(log), log).findings
    assert (code, Severity.ERROR, 6) == (finding.code, finding.severity, finding.line)
    assert title in finding.title
    assert line.split(maxsplit=6)[-1].split(":", maxsplit=1)[0] in finding.message
    log.write_text("\n".join([*STEPS[:1], line, *STEPS[1:], ""]))
    assert "crash" not in {finding.code for finding in Judge.of()(load_run(log), log).findings}


def test_the_rank_that_told_of_a_timeout_is_named(tmp_path: Path) -> None:
    """It is in torchrun's prefix, of two ranks here."""
    line = "[rank{0}]:[E321 02:07:08.4 ProcessGroupNCCL.cpp:607] Watchdog caught collective operation timeout: x"
    log = tmp_path / "train.log"
    log.write_text("\n".join([*STEPS, line.format(3), line.format(1), ""]))
    (finding,) = Judge.of()(load_run(log), log).findings
    assert finding.code == "hang"
    assert finding.message.endswith("Ranks 1, 3 reported it.")


def test_a_nearly_full_disk_is_one_warning(tmp_path: Path) -> None:
    """Ray says it every ten seconds; the first line is pointed to."""
    line = "(raylet) file_system_monitor.cc:111: /tmp/ray/s is over 95% full, available space: 1000; capacity: 30000."
    log = tmp_path / "train.log"
    log.write_text("\n".join([*STEPS, line, *[line] * 3, ""]))
    (finding,) = Judge.of()(load_run(log), log).findings
    assert ("disk", Severity.WARN, "A disk is nearly full", 6) == (
        finding.code,
        finding.severity,
        finding.title,
        finding.line,
    )
    assert finding.message.startswith("The log says 4 times: ")
