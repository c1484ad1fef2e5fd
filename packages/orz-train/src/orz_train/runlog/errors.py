"""What can go wrong while a run writes about itself."""

from __future__ import annotations

from pathlib import Path

from orz_ckpt.disk_errors import no_inodes_left
from orz_ckpt.errors import is_full
from orz_cli.exits import ExitCode
from orz_train.errors import OrzError


class LogWriteError(OrzError, OSError):
    """A file of the run folder couldn't be written; what was written before is intact."""

    exit_code = ExitCode.FAILED

    @classmethod
    def of(cls, path: Path, error: OSError) -> LogWriteError:
        """Describe an operating-system error at one file; call it before what the disk lacks is given back."""
        repair = (no_inodes_left(path) if is_full(error) else "") or "free some space or repair the folder"
        return cls(
            f"{path}: can't be written: {error.strerror or error}",
            remedy=f"{repair}, then go on with `orz train ... --run-dir DIR --resume auto`",
        )


class UnregisteredMetricError(OrzError, ValueError):
    """A metric or phase has a name that `orz_monitor.records` doesn't list, or belongs elsewhere."""
