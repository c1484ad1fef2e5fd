"""The formats of weights that are known here, and which of them a path has.

A new format is one line in `FORMATS`: a module in `orz_ckpt.readers` with `recognises` (by names alone) and `read`. It
is imported when a path may be of its format.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.tensors.source import Source

_HALVES: Final = ("BF16", "F16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a reader may want to know beside the path."""

    tag: str = ""
    """Of a DeepSpeed folder: which of its checkpoints; the one that `latest` names where empty."""
    inert: frozenset[str] = frozenset()
    """Names of pickle globals that may stand for objects that are never made."""
    dtype: str = "keep"
    """In which type the weights will be used: a name of `cast.CASTABLE`, or `keep`."""


def _read_plain(reader: Any, path: Path, _: Asked) -> Source:
    source: Source = reader.read(path)
    return source


def _read_pickled(reader: Any, path: Path, asked: Asked) -> Source:
    source: Source = reader.read(path, inert=asked.inert)
    return source


def _read_deepspeed(reader: Any, path: Path, asked: Asked) -> Source:
    """Take the 16-bit copy of the weights where it is of the very type that is wanted: it has far fewer bytes."""
    source: Source
    if asked.dtype in _HALVES:
        source = reader.read(path, tag=asked.tag, inert=asked.inert, prefer="module")
        if all(tensor.dtype not in _HALVES or tensor.dtype == asked.dtype for tensor in source.tensors.values()):
            return source
    source = reader.read(path, tag=asked.tag, inert=asked.inert)
    return source


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which weights are stored."""

    name: str
    module: str
    """Of its reader, in `orz_ckpt.readers`."""
    call: Callable[[Any, Path, Asked], Source] = _read_pickled
    """Calls the reader's `read`."""

    def recognises(self, path: Path) -> bool:
        """Return whether a path looks like it, from names alone.

        Raises:
            OSError: it cannot be looked at.
        """
        return bool(self._reader().recognises(path))

    def read(self, path: Path, asked: Asked) -> Source:
        """List the tensors.

        Raises:
            FormatError: they cannot be read.
            OSError: a file cannot be read.
        """
        return self.call(self._reader(), path, asked)

    def _reader(self) -> Any:
        return import_module(f"orz_ckpt.readers.{self.module}")


FORMATS: Final = (
    Format("deepspeed", "deepspeed", _read_deepspeed),
    Format("fsdp", "fsdp"),
    Format("dcp", "dcp"),
    Format("peft", "peft"),
    Format("hf", "model_folder", _read_plain),
    Format("torch", "torch_model"),
)
"""In the order in which they are tried: those with a layout of their own before plain files."""
SHARDED: Final = frozenset({"deepspeed", "fsdp", "dcp", "peft"})
"""Names of those that need their reader to be judged; the others are files that stand for themselves."""
_LOST: Final = Format("deepspeed", "deepspeed.without_shards", _read_deepspeed)
"""What held weights and holds none any more."""


def format_of(path: Path) -> Format | None:
    """Return the format whose layout `path` has, also where its weights were lost, by names alone.

    Raises:
        OSError: it cannot be looked at.
    """
    return format_held(path) or (_LOST if _LOST.recognises(path) else None)


def is_sharded(source: Source) -> bool:
    """Return whether only its reader knows what belongs to a model: which ranks, which parameters without elements."""
    return source.format.split("-")[0] in SHARDED  # of deepspeed-zero3


def format_held(path: Path) -> Format | None:
    """Return the format in which `path` holds weights, by names alone.

    Raises:
        OSError: it cannot be looked at.
    """
    return next((known for known in FORMATS if known.recognises(path)), None)
