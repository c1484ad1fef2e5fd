"""Files that are there whole, or not at all, and that never cost the run that they were made of."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Final

from orz_cli.errors import UsageError
from orz_monitor.log_folder import is_log
from orz_monitor.rotation import earlier_parts
from orz_monitor.run_files import RECORDS_FILE
from orz_monitor.settings import CONFIG_FILE

_OWN_FILES: Final = frozenset(
    {RECORDS_FILE, CONFIG_FILE, "environment.json", "progress.csv", "trainer_state.json", "meta.yaml"}
)
_OWN_FOLDERS: Final = frozenset({"checkpoints", "logs", "rollouts", "tensorboard"})
_MADE: Final = frozenset({".html", ".md", ".json", ".csv", ".parquet"})
"""What no trainer writes among its logs, and reports, tables and memories of watches are."""


def publish(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file, then put it in its place at once.

    A link is followed. What is no regular file, such as a pipe or a device, is written into and stays what it is.

    Args:
        target: the file that is made or replaced; `-` is standard output.
        write: writes the file at the path it is given, which does not exist.

    Raises:
        UsageError: the file can't be written there.
        BrokenPipeError: nobody reads the pipe any more.
    """
    try:
        if is_standard_output(target):
            _pass_on(write, _standard_output)
        elif _is_special(target):
            _pass_on(write, lambda: target.open("wb"))
        else:
            _replace(Path(os.path.realpath(target)), write)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(
            f"{target}: can't be written: {error.strerror or error}", remedy="choose another place with --output"
        ) from error


def is_standard_output(target: Path) -> bool:
    """Tell whether a file to write is standard output: `-`, or where that goes, such as `/dev/stdout`."""
    if str(target) == "-":
        return True
    try:
        return os.path.samestat(target.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # not there, or a standard output that is no file
        return False


def refuse_inputs(target: Path, inputs: Iterable[Path], option: str = "--output") -> None:
    """Refuse to write over what is read.

    Args:
        target: the file that will be written.
        inputs: what the user named: files, run folders and stores, also as `PATH#RUN`.
        option: names `target` on the command line.

    Raises:
        UsageError: `target` is one of them, or is a file that belongs to one of them.
    """
    if not os.path.isfile(target):  # noqa: PTH113 - what can't be looked at is told when it is read
        return
    remedy = f"choose another place with {option}"
    real = Path(os.path.realpath(target))
    for given in inputs:
        place = _without_run(given)
        if os.path.exists(place) and os.path.samefile(target, place):  # noqa: PTH110, PTH121 - as above
            raise UsageError(f"{target}: is what is read, and would be lost", remedy=remedy)
        parts = [part for part in earlier_parts(place) if part.exists()]
        if any(target.samefile(part) for part in parts):
            raise UsageError(f"{target}: is read with {place}, and would be lost", remedy=remedy)
        folder = _folder_of(place)
        if folder is not None and real.is_relative_to(folder) and _is_own(real.relative_to(folder)):
            raise UsageError(f"{target}: belongs to the run in {folder}, and would be lost", remedy=remedy)


def _replace(target: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside `target` and rename it."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        write(unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _pass_on(write: Callable[[Path], None], opened: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
    """Write a file, for some formats need one, and copy it into what is no file."""
    with tempfile.TemporaryDirectory(prefix="orz-monitor-") as folder:
        whole = Path(folder, "output")
        write(whole)
        with whole.open("rb") as file, opened() as into:
            shutil.copyfileobj(file, into)
            into.flush()


def _standard_output() -> AbstractContextManager[IO[bytes]]:
    """Return the bytes of standard output, which may be closed (`>&-`)."""
    buffer: IO[bytes] | None = getattr(sys.stdout, "buffer", None)
    if buffer is None or getattr(sys.stdout, "name", "") == os.devnull:  # which `orz` puts in the place of a closed one
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return nullcontext(buffer)


def _is_special(target: Path) -> bool:
    """Tell whether something is there that is no regular file."""
    try:
        return not stat.S_ISREG(target.stat().st_mode)
    except OSError:  # nothing is there, or the attempt to write says what is wrong
        return False


def _without_run(given: Path) -> Path:
    """Return the store of `PATH#RUN`; a file whose own name has a `#` is that file."""
    if "#" not in str(given) or os.path.lexists(given):
        return given
    return Path(str(given).rpartition("#")[0])


def _folder_of(place: Path) -> Path | None:
    """Return the folder that a run is read from, without links; None for a file on its own."""
    if not os.path.isdir(place):  # noqa: PTH112 - a folder that can't be looked at is none
        place = place.parent
        if not os.path.isfile(place / RECORDS_FILE):  # noqa: PTH113 - what can't be looked at is none
            return None
    return Path(os.path.realpath(place))


def _is_own(inside: Path) -> bool:
    """Tell whether a file of a run's folder was there before anything was made of the run, by its place and name."""
    name = inside.name
    if name in _OWN_FILES or is_log(name) or "tfevents" in name or name.endswith(".wandb"):
        return True
    return inside.parts[0] in _OWN_FOLDERS and not (inside.parts[0] == "logs" and inside.suffix in _MADE)
