"""The error tree of orz-train; the root and its exit codes are shared by all orz packages."""

from __future__ import annotations

from orz_cli.errors import OrzError, UsageError
from orz_cli.exits import ExitCode

__all__ = [
    "BackendMissingError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "GenerationError",
    "NonFiniteError",
    "NotSharedError",
    "OrzError",
    "RewardError",
    "RunFolderError",
    "StorageCheckError",
    "UsageError",
    "WeightTransferError",
]


class ConfigError(UsageError):
    """A recipe, an override or a combination of settings is wrong. Names every problem at once."""


class DataError(UsageError):
    """A prompt file, a model folder or a tokenizer can't be used. Names the file and the row."""


class RunFolderError(UsageError):
    """The run folder can't be used for this run: it holds another run, or nothing to resume."""


class BackendMissingError(UsageError):
    """A backend that the run asks for isn't installed. Names the pip line."""


class CheckpointError(OrzError, OSError):
    """A checkpoint couldn't be written or read back; older ones are untouched."""

    exit_code = ExitCode.FAILED


class NotSharedError(CheckpointError):
    """What other nodes wrote of a checkpoint isn't on the driver's disk. It is kept where it is, uncommitted."""


class StorageCheckError(OrzError, OSError):
    """The folder of checkpoints isn't what the configuration says, on one node or another."""

    exit_code = ExitCode.FAILED


class RewardError(OrzError, ValueError):
    """The reward function scored nothing for several steps; the run stopped."""

    exit_code = ExitCode.FAILED


class NonFiniteError(OrzError, ArithmeticError):
    """Too many updates in a row had a non-finite loss or gradient; the run stopped."""

    exit_code = ExitCode.FAILED


class GenerationError(OrzError, RuntimeError):
    """An engine gave up a response: it ended neither by itself nor at the limit of tokens."""

    exit_code = ExitCode.FAILED


class WeightTransferError(OrzError, RuntimeError):
    """Weights didn't reach an engine whole: one is missing, unknown, of another shape, or damaged on the way."""

    exit_code = ExitCode.FAILED
