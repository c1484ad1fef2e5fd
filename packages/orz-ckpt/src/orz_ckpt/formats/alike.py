"""Files that say the same: those of a save's ranks mostly differ in their numbers alone.

Their pickles are then the same program, byte for byte, over records at the same places. What it says of one file, it
says of the other: it is carried out once for all of them. Ranks whose tensors were on GPUs of different numbers have
programs that differ in these; those of the same GPU of each node are alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.formats.inert import Inert
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from pathlib import Path

    from orz_ckpt.formats.archive import Record
    from orz_ckpt.formats.inert_pickle import Pickle

    Key = tuple[bytes, tuple[tuple[str, int, int], ...], tuple[Hashable, ...]]
    """Program, records and settings."""


_MOST: Final = 8
"""Programs that are kept: each GPU of a node may have its own, since torch writes a tensor's device into it."""
_MOST_BYTES: Final = 4 << 20
"""Of such a program; what it says takes some times as much."""


class Alike:
    """What archives that were read before said, for the next ones. It serves one thread.

    Example:
        >>> alike = Alike()
        >>> files = [torch_file.load(path, alike=alike) for path in paths_of_ranks]
    """

    def __init__(self) -> None:
        self._said: dict[object, Pickle] = {}

    def find(self, key: Key, path: Path) -> Pickle | None:
        """Return what a program says of the file `path`; None where no other file said it before.

        Args:
            key: of the archive, by `key_of`.
            path: the file whose blocks are asked for.
        """
        said = self._said.get(key)
        return None if said is None else replace(said, value=_moved(said.value, path, {}))

    def keep(self, key: Key, said: Pickle, path: Path) -> None:
        """Keep what a program says of the file `path`, for those that come after it: a copy, which nobody changes."""
        if len(key[0]) > _MOST_BYTES:
            return
        if len(self._said) >= _MOST:
            del self._said[next(iter(self._said))]
        self._said[key] = replace(said, value=_moved(said.value, path, {}))


def key_of(program: bytes, records: Mapping[str, Record], *settings: Hashable) -> Key:
    """Return all that decides on what a program says: its bytes, where the records of its archive are, and settings.

    Args:
        program: the pickle.
        records: by their place in the archive.
        settings: what else it is read with, such as the names that it may call.
    """
    return program, tuple((name, record.offset, record.nbytes) for name, record in records.items()), settings


def _moved(value: object, path: Path, made: dict[int, object]) -> object:
    """Return a copy of what a pickle says, of another file.

    Args:
        value: what plain recursion can walk.
        path: the file that its blocks will be of.
        made: the copies so far, by the identity of what they are copies of: what appears twice is copied once.
    """
    if not isinstance(value, (Block, dict, list, tuple, set, frozenset, Inert)):
        return value
    if id(value) in made:
        return made[id(value)]
    copy: object
    if isinstance(value, Block):
        copy = value.of(path)
    elif isinstance(value, dict):
        copy = type(value)((_moved(key, path, made), _moved(item, path, made)) for key, item in value.items())
    elif isinstance(value, Inert):
        args, items = (tuple(_moved(part, path, made) for part in parts) for parts in (value.args, value.items))
        copy = Inert(value.name, args, _moved(value.state, path, made), list(items))
    else:
        copy = type(value)(_moved(item, path, made) for item in value)
    made[id(value)] = copy
    return copy
