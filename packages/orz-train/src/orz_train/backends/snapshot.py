"""A copy of a model in host memory, and the thread that writes it while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from torch import Tensor

from orz_ckpt.entries import entry_of
from orz_ckpt.failing import explained
from orz_ckpt.manifest import FileEntry


class Snapshot:
    """What one rank contributes to a checkpoint, apart from what training goes on to change.

    Args:
        save: writes the model's folder; None where another rank does.
        save_state: writes this rank's state into a folder and returns the file.
    """

    def __init__(self, save: Callable[[Path], None] | None, save_state: Callable[[Path], Path]) -> None:
        self._save = save
        self._save_state = save_state
        self._written: Future[dict[str, FileEntry]] | None = None

    def write(self, folder: Path, state: Path) -> None:
        """Begin to write, to the model's folder and to the state's, both in one step folder."""
        written: Future[dict[str, FileEntry]] = Future()

        def work() -> None:
            try:
                written.set_result(self._files(folder, state))
            except BaseException as error:  # noqa: BLE001  whoever waits raises it
                written.set_exception(error)

        self._written = written
        # a daemon: a disk that hangs must not keep a process that has been told to end
        threading.Thread(target=work, name="snapshot", daemon=True).start()

    def finish(self) -> dict[str, FileEntry]:
        """Wait; return what was written, flushed and hashed, by path relative to the step folder.

        Raises:
            StorageError: the disk is full or refuses. `write` may be called again.
        """
        assert self._written is not None  # noqa: S101  # whoever waits has begun
        return self._written.result()

    def _files(self, folder: Path, state: Path) -> dict[str, FileEntry]:
        with explained(folder.parent):
            state.mkdir(parents=True, exist_ok=True)
            files = [self._save_state(state)]
            if self._save is not None:
                folder.mkdir(parents=True, exist_ok=True)
                self._save(folder)
                files += [path for path in sorted(folder.rglob("*")) if path.is_file()]
            return {path.relative_to(folder.parent).as_posix(): entry_of(path) for path in files}


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
