"""Do the safetensors files follow their format, and hold the tensors that the manifest says?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.checks.files import READ_AGAIN, not_a_file
from orz_ckpt.disk.plain import NotPlainError
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.safetensors import Header, Tensor, read_header
from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orz_ckpt.manifest import FileEntry, TensorEntry

_SAVE_AGAIN = "copy or save the file again"


def check_header(path: Path, entry: FileEntry | None = None) -> tuple[Header | None, list[CkptFinding]]:
    """Read the header of `path` and compare it with its entry in the manifest, where there is one."""
    try:
        header = read_header(path)
    except FormatError as error:
        message = error.message.removeprefix(f"{path}: ")
        return None, [finding("header_invalid", message, remedy=_SAVE_AGAIN, path=path)]
    except NotPlainError:
        return None, [not_a_file(path)]
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        return None, [finding("unreadable", message, remedy=READ_AGAIN, path=path)]
    return header, list(_compare(path, header, entry))


def _compare(path: Path, header: Header, entry: FileEntry | None) -> Iterator[CkptFinding]:
    if entry is None or entry.tensors is None:
        return
    found = {tensor.name: tensor for tensor in header.tensors}
    for name in sorted(entry.tensors.keys() | found.keys()):
        stated, tensor = entry.tensors.get(name), found.get(name)
        expected, got = _place(stated), _place(tensor)
        if expected != got:
            message = f"the manifest says {expected}, the header {got}"
            yield finding("tensor_differs", message, remedy=_SAVE_AGAIN, path=path, tensor=name)


def _place(tensor: Tensor | TensorEntry | None) -> str:
    if tensor is None:
        return "no such tensor"
    end = tensor.offset + tensor.nbytes
    return f"{tensor.dtype} {brief(list(tensor.shape))} at bytes {tensor.offset:,}-{end:,}"
