"""Every line that tells of a fault is found in a log, outside a traceback too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orz_monitor.dialects.fault_shapes import KINDS, SHAPES, STOPS, WAITS
from orz_monitor.loading import load_run
from orz_monitor.run import Run, State

pytestmark = pytest.mark.unit

STEPS = "".join(f"step:{i} - actor/pg_loss:0.5 - critic/score/mean:0.25\n" for i in range(5))
LINES = [
    ("cuda_oom", "RuntimeError: CUDA error: out of memory"),
    ("cuda_oom", "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB"),
    ("cuda_oom", "torch.cuda.OutOfMemoryError"),
    ("ray_oom", "(raylet) node_manager.cc:3069: 1 Workers (tasks / actors) killed due to memory pressure (OOM)"),
    ("ray_oom", "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory."),
    ("ray_oom", "Task was killed due to the node running low on memory."),
    ("kv_oom", "ValueError: No available memory for the cache blocks. Try increasing gpu_memory_utilization."),
    (
        "kv_oom",
        "ValueError: The max seq len (4096) is larger than the maximum number of tokens that can be stored in KV cache",
    ),
    ("kv_oom", "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."),
    ("host_oom", "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=123.0. Some of your processes may have"),
    ("host_oom", "[12.3] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/job"),
    ("host_oom", "[12.3] Out of memory: Killed process 77 (python) total-vm:1kB, anon-rss:1kB, file-rss:0kB"),
    ("host_oom", "slurmstepd: error: Detected 1 oom_kill event in StepId=123.0."),
    ("host_oom", "srun: error: n1: task 0: Out Of Memory"),
    ("cuda_error", "RuntimeError: CUDA error: an illegal instruction was encountered"),
    ("cuda_error", "RuntimeError: HIP error: invalid device function"),
    ("cuda_error", "RuntimeError: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb)`"),
    ("cuda_error", "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ("cuda_error", "RuntimeError: device-side assert triggered"),
    ("cuda_error", "RuntimeError: Triton Error [CUDA]: an illegal memory access was encountered"),
    ("cuda_error", "[12345.678] NVRM: Xid (PCI:0000:1b:00): 79, pid=1, GPU has fallen off the bus."),
    ("nccl_timeout", "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=11, OpType=ALLREDUCE)"),
    ("nccl_timeout", "[Rank 0] Some NCCL operations have failed or timed out. Due to the asynchronous nature of CUDA"),
    ("nccl_timeout", "[PG ID 0 Rank 1] Received a dump signal due to a collective timeout from this local rank"),
    ("nccl_timeout", "[PG ID 0 Rank 1] Heartbeat monitor timed out! Process will be terminated after dumping debug"),
    ("segfault", "Fatal Python error: Aborted"),
    ("segfault", "Fatal Python error: Bus error"),
    ("segfault", "job.sh: line 3: 12345 Segmentation fault      (core dumped) python train.py"),
    ("segfault", "job.sh: line 3: 1234 Aborted                 (core dumped) python x"),
    ("segfault", "Aborted (core dumped)"),
    ("segfault", "srun: error: n1: task 3: Aborted (core dumped)"),
    ("segfault", '*** Aborted at 1700000000 (unix time) try "date -d @1700000000" if you are using GNU date ***'),
    ("segfault", "srun: error: n1: tasks 0-3: Bus error"),
    ("segfault", "job.sh: line 3: 1234 Illegal instruction     (core dumped) python x"),
    ("segfault", "*** SIGSEGV received at time=1700000000 on cpu 1 ***"),
    ("segfault", "[n1:77   :0:77] Caught signal 7 (Bus error: nonexistent physical address)"),
    ("segfault", "mpirun noticed that process rank 0 with PID 7 on node n1 exited on signal 11 (address not mapped)."),
    ("segfault", "subprocess.CalledProcessError: Command '['python']' died with <Signals.SIGABRT: 6>."),
    ("segfault", "srun: error: n1: task 0: Exited with exit code 139"),
    ("segfault", "E1101 10:00:00.000 api.py:869] failed (exitcode: -11) local_rank: 0 (pid: 12) of binary: python"),
    (
        "segfault",
        "[2026-01-01 00:00:00,000] [ERROR] [launch.py:321:kill] ['python'] exits with return code = -6",
    ),
    ("segfault", "terminate called after throwing an instance of 'c10::DistBackendError'"),
    ("segfault", "double free or corruption (!prev)"),
    (
        "segfault",
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient",
    ),
    ("segfault", "python: ../src/x.cc:12: foo: Assertion `x' failed."),
    ("disk_full", "OSError: [Errno 28] No space left on device"),
    ("disk_full", "OSError: [Errno 122] Disk quota exceeded: '/home/a/step_5'"),
    ("slurm_limit", "slurmstepd: error: *** STEP 123.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO PREEMPTION ***"),
    ("slurm_limit", "=>> PBS: job killed: walltime 3600 exceeded limit 3600"),
    ("slurm_limit", "srun: error: Node failure on n1"),
    ("signal", "torch.distributed.elastic.multiprocessing.api.Foo: Process 12 got signal: 15"),
    ("signal", "SignalException: Process 12"),
    ("signal", "Received 15 death signal, shutting down workers"),
    ("signal", "[rank: 0] Received SIGTERM: 15"),
    ("signal", "KeyboardInterrupt"),
    ("signal", "Killed"),
    ("signal", "srun: error: node[1-4]: tasks 0-3,7: Terminated"),
    ("signal", "*** SIGTERM received at time=1700000000 on cpu 1 ***"),
    ("signal", "mpirun noticed that process rank 0 with PID 7 on node n1 exited on signal 9 (Killed)."),
    ("signal", "subprocess.CalledProcessError: Command '['python']' died with <Signals.SIGKILL: 9>."),
    ("signal", "srun: error: n1: task 0: Exited with exit code 137"),
    ("signal", "E1101 10:00:00.000 api.py:869] failed (exitcode: -9) local_rank: 0 (pid: 12) of binary: python"),
    (
        "signal",
        "[2026-01-01 00:00:00,000] [ERROR] [launch.py:321:kill] ['python'] exits with return code = -9",
    ),
    ("signal", "command terminated with exit code 137"),
    ("signal", "exit status 137"),
    ("no_resources", "Error: No available node types can fulfill resource request {'GPU': 8.0}."),
    ("port_taken", "RuntimeError: The server socket has failed to listen. port: 29500, EADDRINUSE"),
    ("port_taken", "OSError: [Errno 98] Address already in use"),
    ("port_taken", "ERROR:    [Errno 98] error while attempting to bind on address ('::', 80): address already in use"),
    ("engine_dead", "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."),
    ("engine_dead", "ERROR 09-01 10:00:00 [core.py:390] EngineCore encountered a fatal error."),
    ("engine_dead", "ERROR 09-01 10:00:00 [core.py:390] EngineCore failed to start."),
    ("engine_dead", "RuntimeError: Engine core initialization failed. See root cause above."),
    ("engine_dead", "[2026-01-01 00:00:00 TP0] Scheduler hit an exception: the traceback is lost"),
    ("exit_code", "[2026-01-01 00:00:00] SIGQUIT received. signum=3, frame=None. It usually means one child failed."),
    ("traceback", "Training failed at step 5 with ValueError: too long"),
    ("traceback", "RuntimeError: DataLoader worker (pid 123) is killed by signal: Killed. "),
    ("traceback", "RuntimeError: DataLoader worker (pid(s) 1, 2) exited unexpectedly"),
    ("traceback", "torch.distributed.DistBackendError: NCCL error in: ../NCCLUtils.hpp:317, remote process exited"),
    ("traceback", "[PG ID 0 Rank 1] Process group watchdog thread terminated with exception: NCCL error"),
    ("cuda_error", "[PG ID 0 Rank 1] Process group watchdog thread terminated with exception: CUDA error: unspecified"),
    ("traceback", "RuntimeError: NCCL communicator was aborted on rank 1."),
    (
        "traceback",
        "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:1",
    ),
    ("traceback", "Unhandled error (suppress with 'RAY_IGNORE_UNHANDLED_ERRORS=1'): ray::X.run() (pid=7)"),
    ("actor_died", "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task."),
    ("actor_died", "ray.exceptions.RayActorError: The actor died unexpectedly before finishing this task."),
    ("actor_died", "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"),
    ("actor_died", "ray.exceptions.WorkerCrashedError: The worker died unexpectedly while executing this task."),
    ("actor_died", "ray.exceptions.ActorUnavailableError: The actor is temporarily unavailable"),
    ("actor_died", "(raylet) A worker died or was killed while executing a task by an unexpected system error."),
    ("exit_code", "srun: error: n1: task 0: Exited with exit code 1"),
    ("exit_code", "E1101 10:00:00.000 api.py:869] failed (exitcode: 1) local_rank: 0 (pid: 12) of binary: python"),
    (
        "exit_code",
        "[2026-01-01 00:00:00,000] [ERROR] [launch.py:321:kill] ['python'] exits with return code = 1",
    ),
    ("exit_code", "command terminated with exit code 1"),
    ("exit_code", "subprocess.CalledProcessError: Command '['python']' returned non-zero exit status 1."),
    ("exit_code", "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: "),
]
"""Kind to a line as programs print it."""


def run_of(tmp_path: Path, text: str) -> Run:
    path = tmp_path / "train.log"
    path.write_text(text)
    return load_run(path)


@pytest.mark.parametrize(("kind", "line"), LINES, ids=lambda value: value[:60])
def test_a_line_alone_at_the_end_of_a_log_ends_the_run(tmp_path: Path, kind: str, line: str) -> None:
    """It is read outside a traceback, as what it is; steps behind it take it back."""
    run = run_of(tmp_path, STEPS + line + "\n")
    assert [(kind, 6)] == [(e.data["kind"], e.data["line"]) for e in run.events if e.event == "fault"]
    state = State.UNFINISHED if kind in WAITS else State.INTERRUPTED if kind in STOPS else State.FAILED
    assert state is run.state
    assert State.UNFINISHED is run_of(tmp_path, line + "\n" + STEPS).state


def test_every_shape_has_a_line_and_every_kind_a_shape() -> None:
    """No shape is left that no line above is read by, and none that its gate would keep lines away from."""
    without = [
        shape
        for shape in SHAPES
        if not any(kind == shape.kind and re.search(shape.pattern, line.encode()) for kind, line in LINES)
    ]
    assert [] == without
    for kind, line in LINES:
        found = [shape for shape in SHAPES if shape.kind == kind and re.search(shape.pattern, line.encode())]
        assert found, line
        assert all(shape.gate in line.encode() for shape in found), line
    assert set(KINDS) == {shape.kind for shape in SHAPES}


@pytest.mark.parametrize(
    "line",
    [
        "except KeyboardInterrupt: the loop ends, and so does the KeyboardInterrupt",
        "The mission was Aborted, since a Bus error (core dumped) had happened",
        "Answer: the address already in use is 10 Downing Street",
        "an OOM-kill, or oom-killed: both are written",
        "CUBLAS_STATUS_SUCCESS is 0 and CUBLAS_STATUS_NOT_INITIALIZED is 1",
        "Its exit status is 1, and exit status 137 means that it was killed",
        "the function terminate called twice",
        "it was terminated with exit code 1, she said",
        "The signal was caught: Caught signal",
        "(WorkerDict pid=7) [W1101 socket.cpp:436] failed to bind to [::]:29500 (errno: 98 - Address already in use).",
        "[2026-01-01 00:00:00,000] [INFO] [launch.py:351:main] Process 12 exits with return code = 0",
        "RuntimeError: CUBLAS_STATUS_SUCCESS",
    ],
)
def test_words_of_people_and_models_are_no_fault(tmp_path: Path, line: str) -> None:
    """What programs say of a fault is told from prose and code that names it."""
    assert [] == [event for event in run_of(tmp_path, STEPS + line + "\n").events if event.event == "fault"]
