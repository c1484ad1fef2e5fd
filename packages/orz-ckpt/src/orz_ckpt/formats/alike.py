"""Files that say the same: those of a save's ranks mostly differ in their numbers alone.

Their pickles are then the same program, byte for byte, over records at the same places. What it says of one file, it
says of the other: it is carried out once, whatever the number of ranks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orz_ckpt.formats.inert import Inert
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.formats.archive import Record
    from orz_ckpt.formats.inert_pickle import Pickle


class Alike:
    """What the archive that was read last said, for the next one.

    It serves one thread, which reads all of them with the same names and limits. What it keeps of one file takes as
    much memory as that file's pickle and what it says, within the same limits.

    Example:
        >>> alike = Alike()
        >>> files = [torch_file.load(path, alike=alike) for path in paths_of_ranks]
    """

    def __init__(self) -> None:
        self._program = b""
        self._layout: object = None
        self._said: Pickle | None = None

    def find(self, program: bytes, records: Mapping[str, Record], path: Path) -> Pickle | None:
        """Return what a program says of the file `path`; None where it is not that of the archive before.

        Args:
            program: the pickle.
            records: of the archive of `path`, by their place in it.
            path: the file whose blocks are asked for.
        """
        if self._said is None or program != self._program or _layout(records) != self._layout:
            return None
        return replace(self._said, value=_moved(self._said.value, path, {}))

    def keep(self, program: bytes, records: Mapping[str, Record], said: Pickle, path: Path) -> None:
        """Keep what a program says of the file `path`, for those that come after it: a copy, which nobody changes."""
        self._program, self._layout = program, _layout(records)
        self._said = replace(said, value=_moved(said.value, path, {}))


def _layout(records: Mapping[str, Record]) -> object:
    """Return all that a program can ask of an archive: where its records are."""
    return [(name, record.offset, record.nbytes) for name, record in records.items()]


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
        copy = replace(value, path=path)
    elif isinstance(value, dict):
        copy = type(value)((_moved(key, path, made), _moved(item, path, made)) for key, item in value.items())
    elif isinstance(value, Inert):
        args, items = (tuple(_moved(part, path, made) for part in parts) for parts in (value.args, value.items))
        copy = Inert(value.name, args, _moved(value.state, path, made), list(items))
    else:
        copy = type(value)(_moved(item, path, made) for item in value)
    made[id(value)] = copy
    return copy
