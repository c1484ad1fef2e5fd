"""A copy of a model in host memory, and the thread that writes it while training goes on."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from torch import Tensor

from orz_ckpt.failing import explained
from orz_ckpt.manifest import FileEntry
from orz_train.backends.step_folder import make_part
from orz_train.errors import CheckpointError

Save = Callable[[Path], dict[str, FileEntry]]
"""Writes into a folder; returns the files, on the disk and hashed, by path relative to the step folder around it."""


class Snapshot:
    """What one rank contributes to a checkpoint, apart from what training goes on to change.

    The functions hold the copies as arguments, by `functools.partial`: a failure's traceback keeps closures in memory.

    Args:
        save: writes the model's folder; None where another rank does.
        save_state: writes this rank's state.
    """

    def __init__(self, save: Save | None, save_state: Save) -> None:
        self._copies: tuple[Save | None, Save] | None = (save, save_state)
        self._written: Future[dict[str, FileEntry]] | None = None
        self._thread: threading.Thread | None = None

    def write(self, folder: Path, state: Path) -> None:
        """Begin to write, to the model's folder and to the state's, both in one step folder, which is there.

        The thread of an earlier attempt ends first: two would write the same copies at once.
        """
        self.ended()
        assert self._copies is not None  # noqa: S101  # whoever writes has not dropped them
        self._written = Future()
        # a daemon: a disk that hangs must not keep a process that has been told to end
        self._thread = threading.Thread(
            target=_write, args=(self._written, *self._copies, folder, state), name="snapshot", daemon=True
        )
        self._thread.start()

    def finish(self, timeout_s: float | None = None) -> dict[str, FileEntry]:
        """Wait; return what was written, flushed and hashed, by path relative to the step folder.

        Raises:
            StorageError: the disk is full or refuses. `write` may be called again.
            CheckpointError: `timeout_s` has passed.
        """
        assert self._written is not None  # noqa: S101  # whoever waits has begun
        if not self.ended(timeout_s):
            raise CheckpointError("it was not written in time", remedy="see how fast the disk is")
        return self._written.result()

    def ended(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is written any more, whatever has become of it; say whether that is so."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def drop(self) -> None:
        """Let the copies go; a thread that still writes them keeps them until it ends."""
        self._copies = None


class WritesSnapshots:
    """What models share whose snapshots are written in the background. Each takes its own, after `_make_room`."""

    _snapshot: Snapshot | None = None

    def write_snapshot(self, folder: Path, state: Path) -> None:
        """Begin to write the copies in the background."""
        assert self._snapshot is not None  # noqa: S101  # whoever writes has taken it
        self._snapshot.write(folder, state)

    def finish_snapshot(self, timeout_s: float | None = None) -> dict[str, FileEntry]:
        """Wait for the files of the copies; return them by path relative to the step folder.

        Raises:
            StorageError: the disk is full or refuses; the copies can be written again.
            CheckpointError: `timeout_s` has passed.
        """
        assert self._snapshot is not None  # noqa: S101  # whoever waits has begun
        return self._snapshot.finish(timeout_s)

    def writing_ended(self, timeout_s: float) -> bool:
        """Wait until nothing is written any more; say whether that is so."""
        return self._snapshot is None or self._snapshot.ended(timeout_s)

    def drop_snapshot(self) -> None:
        """Free the copies."""
        if self._snapshot is not None:
            self._snapshot.drop()

    def _make_room(self) -> None:
        """Let the last copies go before new ones are taken: host memory may not hold both."""
        if self._snapshot is not None:
            self._snapshot.drop()
            self._snapshot.ended()
            self._snapshot = None


def _write(
    written: Future[dict[str, FileEntry]], save: Save | None, save_state: Save, folder: Path, state: Path
) -> None:
    """Write copies; what becomes of it goes to `written`."""
    try:
        written.set_result(_files(save, save_state, folder, state))
    except BaseException as error:  # noqa: BLE001  whoever waits raises it
        del save, save_state  # else its traceback would keep the copies in memory, as would the frames below
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        written.set_exception(error)


def _files(save: Save | None, save_state: Save, folder: Path, state: Path) -> dict[str, FileEntry]:
    """Write copies."""
    with explained(folder.parent):
        make_part(state)
        files = save_state(state)
        if save is not None:
            make_part(folder)
            files |= save(folder)
        return files


def host_copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to host memory; those that share memory, such as a tied head, share it in the copy."""
    copies: dict[tuple[int, tuple[int, ...], tuple[int, ...]], Tensor] = {}
    copied = {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() == 0 or key not in copies:
            copies[key] = tensor.detach().to("cpu", copy=True)
        copied[name] = copies[key]
    return copied


def host_copy_of(value: Any, copies: dict[int, Any] | None = None) -> Any:
    """Copy a state of dictionaries and lists to host memory, tensors and all.

    What is one object there is one in the copy, so that both are written as the same bytes.

    Args:
        value: the state.
        copies: of objects seen already, by id.
    """
    copies = {} if copies is None else copies
    if id(value) not in copies and isinstance(value, Tensor):
        copies[id(value)] = value.detach().to("cpu", copy=True)
    elif id(value) not in copies and isinstance(value, dict):
        copies[id(value)] = {key: host_copy_of(item, copies) for key, item in value.items()}
    elif id(value) not in copies and isinstance(value, list):
        copies[id(value)] = [host_copy_of(item, copies) for item in value]
    return copies.get(id(value), value)  # anything else never changes
