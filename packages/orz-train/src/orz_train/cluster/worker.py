"""The actor: one process that hosts one plain object, made by a factory. The object knows nothing of Ray."""

from __future__ import annotations

import faulthandler
import importlib
import logging
import os
import pickle
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orz_train
from orz_train.backends.vllm.processes import EndedProcess
from orz_train.cluster.errors import WorkerDiedError
from orz_train.cluster.placement import Slot
from orz_train.cluster.reaper import count_oom_kills, describe, leave_group
from orz_train.errors import OrzError

_PACKAGE = Path(orz_train.__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An exception in a worker, in a form that every driver can read."""

    slot: Slot
    at: float
    """Seconds since the Unix epoch, by the worker's clock."""
    line: str
    """The exception's name and text, in one line."""
    error: OrzError | None
    """The exception itself, if it is one of ours: for the user as it is."""


class WorkerFailure(Exception):  # noqa: N818  # carries a failure through Ray; users see WorkerError
    """Brings a `Failure` to the driver."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Worker:
    """Hosts an object; `call` and `stream` run its methods, one at a time.

    Whatever the process prints goes to its log. Warnings of orz_train travel to the driver with the next result.

    Args:
        slot: which worker this is.
        log: its file; the folder is made if need be.
        num_threads: of torch's operators.
        address: of its node.
        import_path: the driver's `sys.path`, for the user's own modules.
    """

    def __init__(
        self, slot: Slot, *, log: Path, num_threads: int, address: str, import_path: Sequence[str] = ()
    ) -> None:
        self.slot = slot
        self.log = log
        self.address = address
        self._oom_kills = count_oom_kills()
        self.num_threads = num_threads
        self.hosted: Any = None
        self.warnings: list[str] = []
        self._failed: SimpleQueue[Failure] = SimpleQueue()
        sys.path += [folder for folder in import_path if folder not in sys.path]
        _redirect(log)
        leave_group()
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
        logging.getLogger("orz_train").setLevel(logging.INFO)
        logging.getLogger("orz_train").addHandler(_Collector(self.warnings))
        warnings.showwarning = self._show_warning
        logging.getLogger("orz_train.cluster").info("%s: process %d on %s", slot, os.getpid(), address)

    def watch(self) -> None:
        """Wait for as long as the process lives: to the driver, the end of this call is the end of the process.

        Raises:
            WorkerFailure: `serve` failed, or a process that the object depends on ended; the driver would learn it
                late, or never, from whoever waits for that.
        """
        raise WorkerFailure(self._failed.get())

    def make(self, factory: str, arguments: Mapping[str, Any]) -> tuple[None, list[str]]:
        """Make the object, by a function named `module:function`."""
        self.hosted, notes = self.run(factory, arguments)
        if hasattr(self.hosted, "watch_processes"):
            self.hosted.watch_processes(self._lost)
        return None, notes

    def run(self, function: str, arguments: Mapping[str, Any], *positional: Any) -> tuple[Any, list[str]]:
        """Run a function named `module:function`; return its value and the warnings so far."""
        with _Explained(self.slot):
            module, _, name = function.partition(":")
            found = getattr(importlib.import_module(module), name)
            if (torch := sys.modules.get("torch")) is not None:
                torch.set_num_threads(self.num_threads)
            return found(*positional, **arguments), self._take_warnings()

    def apply(self, function: str, arguments: Mapping[str, Any]) -> tuple[Any, list[str]]:
        """Run a function named `module:function` on the object; return its value and the warnings so far."""
        return self.run(function, arguments, self.hosted)

    def call(self, method: str, *positional: Any, **named: Any) -> tuple[Any, list[str]]:
        """Run a method of the object; return its value and the warnings so far."""
        with _Explained(self.slot):
            return getattr(self.hosted, method)(*positional, **named), self._take_warnings()

    def stream(self, method: str, *positional: Any, **named: Any) -> Iterator[tuple[Any, list[str]]]:
        """Run a method of the object that yields; yield its values and the warnings so far."""
        with _Explained(self.slot):
            for value in getattr(self.hosted, method)(*positional, **named):
                yield value, self._take_warnings()

    def serve(self, method: str, *positional: Any) -> None:
        """Run a method of the object for another worker; the driver hears of a failure from `watch`."""
        try:
            with _Explained(self.slot):
                getattr(self.hosted, method)(*positional)
        except WorkerFailure as error:
            self._failed.put(error.failure)
            raise

    def close(self) -> None:
        """Let the object end what it has started."""
        if hasattr(self.hosted, "close"):
            with _Explained(self.slot):
                self.hosted.close()

    def _lost(self, process: EndedProcess) -> None:
        """Tell the driver, by `watch`, of a process that the object depends on."""
        code = process.exit_code
        how = (
            "in an unknown way"
            if code is None
            else describe(-code if code < 0 else code << 8, out_of_memory=count_oom_kills() > self._oom_kills)
        )
        error = WorkerDiedError(
            f"{self.slot} on {self.address} lost its process {process.name} ({process.pid}): it ended {how}",
            remedy=f"see {self.log}; then go on from the last checkpoint: the same command with --run-dir of this run",
        )
        sys.stderr.write(f"{error.message}\n")
        self._failed.put(Failure(slot=self.slot, at=time.time(), line=error.message, error=error))

    def _take_warnings(self) -> list[str]:
        taken = self.warnings.copy()
        self.warnings.clear()
        return taken

    def _show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,  # noqa: ARG002  # part of the hook's signature
        line: str | None = None,
    ) -> None:
        """Write a Python warning to the log; keep one of ours for the driver."""
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
        if Path(filename).is_relative_to(_PACKAGE):
            self.warnings.append(str(message))


class _Collector(logging.Handler):
    """Keeps what orz_train logs as a warning or worse."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record.getMessage())


class _Explained:
    """Writes the traceback of an exception to the log and raises a WorkerFailure instead; another worker's passes."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, WorkerFailure):
            return
        traceback.print_exception(error)
        sys.stderr.flush()
        lines: Sequence[str] = traceback.format_exception_only(error)
        raise WorkerFailure(
            Failure(
                slot=self.slot,
                at=time.time(),
                line=" ".join(lines[-1].split()),
                error=error if isinstance(error, OrzError) and _travels(error) else None,
            )
        ) from None


def visible_gpus() -> str:
    """Return the GPUs that this process sees, as `CUDA_VISIBLE_DEVICES` has them."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def _travels(error: OrzError) -> bool:
    """Say whether an error survives the way to the driver."""
    try:
        return isinstance(pickle.loads(pickle.dumps(error)), type(error))  # noqa: S301  # our own object
    except Exception:  # noqa: BLE001  # a class of the user's may fail in any way; the text still travels
        return False


def _redirect(log: Path) -> None:
    """Send whatever this process and its children print to a file, and a fatal signal's trace too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")
    faulthandler.enable(file=2)
