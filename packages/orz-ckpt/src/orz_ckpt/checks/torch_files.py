"""Do the files of torch follow their format, and would loading them run code?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.disk.plain import open_plain
from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.findings import CkptFinding, finding, of_error
from orz_ckpt.formats.archive import SIGNATURE
from orz_ckpt.formats.torch_contents import TorchContents, contents_of
from orz_ckpt.formats.torch_file import NotTorchError, load
from orz_ckpt.formats.torch_tensors import UnsupportedTensorError
from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROTOCOLS: Final = range(2, 6)
_ALWAYS: Final = (".pt", ".pth")
"""Suffixes of nothing but files of torch."""
_SOMETIMES: Final = (".bin", ".ckpt")
"""Suffixes of files of torch and of others; how one begins tells."""
_MAX_NAMED: Final = 10


def is_torch_file(path: Path) -> bool:
    """Return whether `path` is, or should be, a file of torch.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix in _ALWAYS or (path.name.startswith("pytorch_model") and path.suffix == ".bin"):
        return True
    if path.suffix not in _SOMETIMES or not path.is_file():
        return False
    with open_plain(path) as stream:
        begin = stream.read(len(SIGNATURE))
    return begin == SIGNATURE or (begin[:1] == b"\x80" and begin[1:2] in {bytes([number]) for number in _PROTOCOLS})


def check_torch(path: Path, inert: frozenset[str]) -> tuple[TorchContents | None, list[CkptFinding]]:
    """Read what `path` says with nothing of it run, where it is a torch file; of other files say nothing."""
    try:
        if not is_torch_file(path):
            return None, []
        contents = contents_of(load(path, inert=inert))
        return contents, list(_hidden(path, contents))
    except (HostileError, UnsupportedTensorError) as error:
        found = of_error(error, path)
    except FormatError as error:
        if isinstance(error, NotTorchError) and path.suffix not in _ALWAYS:
            return None, []
        message = error.message.removeprefix(f"{path}: ")
        found = finding("torch_invalid", message, remedy=error.remedy, path=path)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        found = finding("unreadable", message, remedy=READ_AGAIN, path=path)
    return None, [found]


def _hidden(path: Path, contents: TorchContents) -> Iterator[CkptFinding]:
    for name in contents.hidden[:_MAX_NAMED]:
        message = f"several tensors have the name {brief(name)}: a key `a.b` reads like a key `b` below `a`"
        yield finding("names_collide", message, remedy="save it again under other names", path=path, tensor=name)
    if len(contents.hidden) > _MAX_NAMED:
        message = f"and {len(contents.hidden) - _MAX_NAMED} more names likewise"
        yield finding("names_collide", message, remedy="save it again under other names", path=path)
