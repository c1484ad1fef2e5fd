"""How runs die: the first cause, not the noise after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.run import Run, State

pytestmark = pytest.mark.unit

STEPS = "".join(f"step:{i} - actor/pg_loss:0.5 - critic/score/mean:0.25\n" for i in range(5))


def run_of(tmp_path: Path, text: str) -> Run:
    path = tmp_path / "train.log"
    path.write_text(text)
    return load_run(path)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "cuda_oom"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "cuda_error"),
        (
            "[rank0]:[E321 02:07:08.408271257 ProcessGroupNCCL.cpp:607] Watchdog caught collective operation timeout",
            "nccl_timeout",
        ),
        ("(raylet) node_manager.cc:3069: 1 Workers (tasks / actors) killed due to memory pressure (OOM)", "ray_oom"),
        ("ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.", "actor_died"),
        ("vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.", "engine_dead"),
        ("OSError: [Errno 28] No space left on device", "disk_full"),
        ("Fatal Python error: Segmentation fault", "segfault"),
        ("srun: error: node1: task 0: Exited with exit code 1", "exit_code"),
    ],
)
def test_faults_that_end_a_run_are_errors(tmp_path: Path, line: str, kind: str) -> None:
    """Each kind of death is told apart, with its place."""
    run = run_of(tmp_path, STEPS + line + "\n")
    assert run.state is State.FAILED
    end = run.events[-1]
    assert (end.event, end.data["kind"], end.data["line"], end.step) == ("error", kind, 6, 4)


@pytest.mark.parametrize(
    "line",
    [
        "slurmstepd: error: *** JOB 123 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***",
        "torch.distributed.elastic.multiprocessing.api.SignalException: Process 12 got signal: 15",
        "Killed",
        "Terminated",
        "train.sh: line 3: 12345 Killed                  python train.py",
        "srun: error: node1: task 0: Killed",
        "srun: error: node[1-4]: tasks 0-3,7: Terminated",
        "srun: error: node1: tasks 0-7: Exited with exit code 143",
    ],
)
def test_a_run_that_was_stopped_from_outside_was_interrupted(tmp_path: Path, line: str) -> None:
    """A signal is no error of the run's own."""
    assert run_of(tmp_path, STEPS + line + "\n").state is State.INTERRUPTED


@pytest.mark.parametrize("line", ["I was Killed", "Killed the dragon", "Terminated at once", "exit code 1"])
def test_words_in_samples_are_no_signal(tmp_path: Path, line: str) -> None:
    """A response may tell of a knight who was killed."""
    assert run_of(tmp_path, STEPS + line + "\n").state is State.UNFINISHED


def test_the_first_cause_wins(tmp_path: Path) -> None:
    """Actors that die of another's death are not the reason."""
    text = (
        STEPS
        + 'Traceback (most recent call last):\n  File "a.py", line 1, in step\n'
        + "ray.exceptions.ActorDiedError: The actor died unexpectedly\n"
        + "(WorkerDict pid=7) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
    )
    assert run_of(tmp_path, text).events[-1].data["kind"] == "cuda_oom"


def test_an_exception_that_was_survived_is_no_end(tmp_path: Path) -> None:
    """Steps went on after it."""
    trace = 'Traceback (most recent call last):\n  File "r.py", line 3\nValueError: bad answer\n'
    run = run_of(tmp_path, trace + STEPS)
    assert run.state is State.UNFINISHED
    assert [(event.event, event.data["kind"], event.data["line"]) for event in run.events] == [
        ("fault", "traceback", 3)
    ]


def test_noise_after_the_finish_is_noise(tmp_path: Path) -> None:
    """Taking processes down prints errors that mean nothing."""
    text = STEPS + "\"Final validation metrics: {'val-core/x/acc/mean@1': 0.5}\"\nBrokenPipeError: x\nEngineDeadError\n"
    run = run_of(tmp_path, text)
    assert run.state is State.FINISHED


def test_a_traceback_of_one_process_among_lines_of_others(tmp_path: Path) -> None:
    """Ray mixes lines; the exception is that of the process whose traceback it is."""
    text = (
        STEPS
        + '(A pid=1) Traceback (most recent call last):\n(B pid=2) all is well: 1\n(A pid=1)   File "a.py", line 1\n'
        + "(B pid=2) ValueError is a name\n(A pid=1) KeyError: 'x'\n"
    )
    end = run_of(tmp_path, text).events[-1]
    assert (end.event, end.data["message"], end.data["line"]) == ("error", "KeyError: 'x'", 10)


def test_a_crash_before_the_first_step_is_a_run_that_failed(tmp_path: Path) -> None:
    """No metric, but a cause of death: that can be judged; silence can not."""
    assert run_of(tmp_path, "starting\nRuntimeError: CUDA error: out of memory\n").state is State.FAILED
    with pytest.raises(UnreadableRunError, match="no metric recognised"):
        run_of(tmp_path, "starting\n")


def test_a_repeated_fault_is_counted_not_collected(tmp_path: Path) -> None:
    """A warning every ten seconds for a week is a number."""
    line = "(raylet) [2025-03-02 11:56:50,784 E 1 2] (raylet) f.cc:111: /tmp/s is over 95% full, available space: {}\n"
    run = run_of(tmp_path, STEPS + "".join(line.format(i) for i in range(1000)))
    notices = [event for event in run.events if event.event == "notice"]
    assert len(notices) == 200
    assert notices[-1].data["count"] == 1000
    assert notices[-1].data["free_bytes"] == 999
