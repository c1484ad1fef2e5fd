"""The folder of one run: created whole or not at all, and opened again only for the run that it holds."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from orz_ckpt.disk.links import link_to_nothing, resolved
from orz_train.config.dump import config_sha256, dump
from orz_train.config.load import load
from orz_train.config.resume import Difference, blocks_resume, differences
from orz_train.config.schema import Config
from orz_train.errors import ConfigError, RunFolderError
from orz_train.runlog.durable import replace_text
from orz_train.runlog.lock import LOCK_FILE, FolderLock

_LAYOUT = ("logs", "rollouts", "checkpoints")
_CONFIG = "config.yaml"
_METRICS = "metrics.jsonl"
_ENVIRONMENT = "environment.json"
_NUM_SHOWN = 20


class RunFolder:
    """A locked run folder with its layout and `config.yaml`; a context manager, which unlocks it.

    ```
    config.yaml  environment.json  metrics.jsonl  console.log  logs/  tensorboard/  rollouts/  checkpoints/
    ```
    If the block fails before anything was recorded in a new folder, the folder is removed again; but not the logs of
    workers that have started: they say why.

    Args:
        config: of the run.
        path: where; `./runs/<name>-<UTC>-<id>` by default. Fixed once, whatever the working directory becomes.
        must_be_new: refuse a folder that holds a run already.
        looks_only: leave the settings of the run that is here as they are: nothing is trained with these.

    Raises:
        RunFolderError: the folder holds another run, or something else; another process writes there; it can't
            be created, as behind a link to nothing, or the disk is full. Nothing new is left behind.
    """

    def __init__(
        self, config: Config, path: Path | None = None, *, must_be_new: bool = False, looks_only: bool = False
    ) -> None:
        self.config = config
        self.path = Path(os.path.abspath(path or Path("runs") / default_name(config.name)))  # noqa: PTH100  keeps links
        self.config_sha256 = config_sha256(config)
        self.is_new = True
        """Whether no run was here before."""
        self.changes: tuple[Difference, ...] = ()
        """Settings that this continuation changes."""
        self._made: list[Path] = []
        self._lock: FolderLock | None = None
        try:
            with _as_run_folder_error(self.path):
                self._make_folders(self.path)
                self._refuse_strangers()
                self._lock = FolderLock(self.path)
                self._settle(must_be_new=must_be_new, looks_only=looks_only)
        except BaseException:
            self._undo()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self.is_new and not self._has_records() and not self._has_workers_logs():
            self._undo()
        else:
            self.close()

    def _has_records(self) -> bool:
        return self.metrics_file.exists() and self.metrics_file.stat().st_size > 0

    def _has_workers_logs(self) -> bool:
        return any(self.logs.glob("*-*.log")) or any(self.logs.glob("ray/*"))

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def notice(self) -> str:
        """Whose lock was taken over; empty if there was none."""
        return self._lock.notice if self._lock is not None else ""

    @property
    def metrics_file(self) -> Path:
        """The records of the run."""
        return self.path / _METRICS

    @property
    def console_file(self) -> Path:
        """The log for people."""
        return self.path / "console.log"

    @property
    def environment_file(self) -> Path:
        """What the run ran on."""
        return self.path / _ENVIRONMENT

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's files."""
        return self.path / "tensorboard"

    @property
    def rollouts(self) -> Path:
        """The folder of sampled responses."""
        return self.path / "rollouts"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """The folder of the workers' logs, `<role>-<rank>.log`."""
        return self.path / "logs"

    def _make_folders(self, path: Path) -> None:
        for folder in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
            folder.mkdir(exist_ok=True)
            self._made.append(folder)

    def _refuse_strangers(self) -> None:
        """Refuse a folder that is no run folder; a start that was killed early has left nothing but our own names."""
        if (self.path / _CONFIG).exists():
            return
        strangers = sorted(
            entry.name
            for entry in self.path.iterdir()
            if entry.name not in {LOCK_FILE, _ENVIRONMENT, *_LAYOUT}
            and not (entry.name.startswith(".") and entry.name.endswith(".tmp"))
        )
        if strangers:
            raise RunFolderError(
                f"{self.path}: not empty and not a run folder: it holds {strangers[0]}"
                + (f" and {len(strangers) - 1} more" if len(strangers) > 1 else "")
                + f", but no {_CONFIG}",
                remedy="give a new or empty folder as --run-dir",
            )

    def _settle(self, *, must_be_new: bool, looks_only: bool) -> None:
        """Write the layout of a new run, `config.yaml` last, or agree with the run that is here."""
        written = self.path / _CONFIG
        if written.exists():
            self.is_new = False
            if must_be_new:
                raise RunFolderError(
                    f"{self.path}: holds a run already", remedy="give another --run-dir, or --resume auto to go on"
                )
            changes = self._agree(written)
            if looks_only:
                return
            self.changes = changes
        self._make_layout()
        if self.is_new or self.changes:
            if self.changes:
                replace_text(_unused(written), written.read_text(encoding="utf-8"))
            replace_text(written, dump(self.config))
            self._made.append(written)

    def _make_layout(self) -> None:
        for name in _LAYOUT:
            folder = self.path / name
            if not folder.exists():
                folder.mkdir()
                self._made.append(folder)

    def _agree(self, written: Path) -> tuple[Difference, ...]:
        """Compare the configuration with the one that the folder was made for, and return what differs.

        Raises:
            RunFolderError: a setting differs that can't change on the way; or the file isn't readable.
        """
        try:
            before = load(str(written)).config
        except ConfigError as error:
            raise RunFolderError(
                f"{written}: not the configuration of a run: {error.message.splitlines()[0]}",
                remedy="give another --run-dir",
            ) from error
        changes = differences(before, self.config)
        blocking = [change for change in changes if blocks_resume(change, self.config)]
        if blocking:
            shown = [f"  {change.key}: {change.old} there, {change.new} now" for change in blocking[:_NUM_SHOWN]]
            if len(blocking) > _NUM_SHOWN:
                shown.append(f"  and {len(blocking) - _NUM_SHOWN} more")
            raise RunFolderError(
                f"{self.path}: holds a run of another configuration:\n" + "\n".join(shown),
                remedy="give another --run-dir, or make these settings equal to go on with that run",
            )
        return tuple(changes)

    def _undo(self) -> None:
        """Remove what this object has made, and nothing that came from elsewhere."""
        if self._lock is not None and self.is_new:
            own = (self.environment_file, self.metrics_file, self.console_file)
            for file in (*own, *self.logs.glob("*.log"), *(made for made in self._made if made.is_file())):
                file.unlink(missing_ok=True)
            shutil.rmtree(self.tensorboard, ignore_errors=True)
        self.close()
        for folder in reversed([made for made in self._made if made.is_dir()]):
            with suppress(OSError):  # somebody else has put a file there, so it stays
                folder.rmdir()


def default_name(name: str) -> str:
    """Return `<recipe>-<UTC>-<id>`, unused by chance of 1 in 16 million a second."""
    return f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def refuse_link_to_nothing(path: Path, inner: Path | None = None) -> None:
    """Refuse a run folder that is a link to nothing, or lies behind one, as of a share that isn't mounted.

    Args:
        path: the run folder; it need not be there.
        inner: what of it is looked at; itself by default.

    Raises:
        RunFolderError: it says where the link leads.
    """
    try:
        link = link_to_nothing(inner or path)
    except OSError:
        return  # who opens it hears from the system what it is
    if link is None:
        return
    leads = resolved(link)
    if leads.is_symlink():
        raise RunFolderError(
            f"{path}: can't be a run folder: {link} is a link that leads in a circle", remedy="give another --run-dir"
        )
    raise RunFolderError(
        f"{path}: can't be a run folder: {link} is a link to {leads}, and nothing is there on this machine",
        remedy="if that is on a share, check that it is mounted; or give another --run-dir",
    )


def _unused(path: Path) -> Path:
    """Return `config-1.yaml`, or the first such name that is free."""
    number = 1
    while (candidate := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return candidate


@contextmanager
def _as_run_folder_error(path: Path) -> Iterator[None]:
    """Turn what the operating system says of the folder into an error with a next step."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        met = error.filename or path
        refuse_link_to_nothing(path, Path(met))
        raise RunFolderError(
            f"{path}: can't be a run folder: {met} is a file", remedy="give another --run-dir"
        ) from error
    except OSError as error:
        raise RunFolderError(
            f"{path}: can't be used as run folder: {error.strerror or error}",
            remedy="give a --run-dir that you may write to, on a disk with free space",
        ) from error
