"""What can go wrong between processes and machines."""

from __future__ import annotations

from orz_cli.exits import ExitCode
from orz_train.errors import OrzError, UsageError


class PlacementError(UsageError):
    """The cluster hasn't what the run wants. Shows both."""


class ClusterError(OrzError, RuntimeError):
    """Ray can't be started or reached, or its nodes don't fit the run."""

    exit_code = ExitCode.FAILED


class WorkerError(OrzError, RuntimeError):
    """A worker raised an exception. Names the worker and the log with the traceback."""

    exit_code = ExitCode.FAILED


class WorkerDiedError(OrzError, RuntimeError):
    """A worker's process ended during the run. Names the worker, how it ended, and the tail of its log."""

    exit_code = ExitCode.FAILED


class WorkerTimeoutError(OrzError, TimeoutError):
    """Workers took longer than the run allows. Names them, with the tails of their logs."""

    exit_code = ExitCode.FAILED
