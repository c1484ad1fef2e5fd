"""What `.metadata` of a distributed checkpoint says: which tensors there are, and in which file each chunk lies.

It is a plain pickle (no archive) of dataclasses: torch 2.13, `distributed/checkpoint/metadata.py` (`Metadata`,
`TensorStorageMetadata`, `ChunkStorageMetadata`, `MetadataIndex`) and `filesystem.py` (`_StorageInfo`). `torch` itself
reads it with `pickle.load`, which runs whatever it holds; here nothing of it is made. Saves without collectives write
one `__<rank>.metadata` a rank instead, each with its own chunks only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from orz_ckpt.disk.plain import NotPlainError, open_plain
from orz_ckpt.errors import EscapeError, FormatError, HostileError
from orz_ckpt.formats.hf import is_plain_name
from orz_ckpt.formats.inert import LIMITS, BadPickleError, Global, Limits
from orz_ckpt.formats.inert_pickle import load_pickle
from orz_ckpt.formats.torch_tensors import DTYPES
from orz_ckpt.memory import memory_for
from orz_ckpt.quoting import brief
from orz_ckpt.readers.dtensor import attributes, sizes_of
from orz_ckpt.strict_json import is_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_TENSOR: Final = "TensorStorageMetadata"
_MEMORY_FACTOR: Final = 64
_MOST_MEMORY: Final = 2 * 1024**3


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A box of a tensor, and the archive of torch that holds it."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    file: str
    """Name of the file, in the folder of the checkpoint."""
    offset: int
    nbytes: int
    transforms: tuple[str, ...] = ()
    """What was done to its bytes (compression, encryption), in the order in which to undo it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A tensor of the state dict that was saved."""

    key: str
    path: tuple[str, ...]
    """Where it was in the state dict: `("model", "layers.0.weight")`."""
    dtype: str
    """A safetensors name; a name of torch's where safetensors knows none."""
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


class Archive(NamedTuple):
    """Where an archive of torch lies, whatever it holds."""

    key: str
    """Of the tensor or object."""
    file: str
    offset: int
    nbytes: int
    plain: bool
    """Whether nothing was done to its bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What one file says."""

    entries: tuple[Entry, ...]
    num_objects: int
    """Entries that are no tensors."""
    files: frozenset[str]
    """Names of all files that it names."""
    archives: tuple[Archive, ...] = ()
    """Of tensors and of other objects, in no order."""
    version: str = ""


def read_metadata(path: Path, *, inert: frozenset[str] = frozenset()) -> Metadata:
    """Read a `.metadata` file.

    Raises:
        FormatError: it is damaged, too large, or nothing that torch wrote.
        HostileError: it would run code if torch loaded it.
        EscapeError: it names a file outside its folder.
        OSError: it cannot be read.
    """
    try:
        with memory_for(path), open_plain(path) as stream:
            return _metadata(stream.read(LIMITS.pickle_bytes + 1), inert)
    except NotPlainError as error:
        raise FormatError(error.message, remedy="give a folder that torch saved") from None
    except BadPickleError as error:
        remedy = "save the checkpoint again; its data files alone do not say what they hold"
        raise FormatError(f"{path}: not a sound .metadata: {error}", remedy=remedy) from None
    except HostileError as error:
        raise type(error)(f"{path}: {error.message}", remedy=error.remedy) from None


def _limits(nbytes: int) -> Limits:
    """Return the limits for a file of so many bytes: it describes each chunk of each rank, and grows with both.

    64 ranks with 300 tensors are 2.8 MB, of which 130 MB of objects are made.
    """
    return replace(
        LIMITS,
        memory_bytes=max(LIMITS.memory_bytes, min(_MEMORY_FACTOR * nbytes, _MOST_MEMORY)),
        instructions=max(LIMITS.instructions, nbytes),
        memo=max(LIMITS.memo, nbytes),
        items=max(LIMITS.items, nbytes),
    )


def _metadata(data: bytes, inert: frozenset[str]) -> Metadata:
    pickle = load_pickle(data, inert=inert, limits=_limits(len(data)))
    if pickle.nbytes != len(data):
        raise BadPickleError(f"{len(data) - pickle.nbytes:,} bytes follow its end")
    fields = attributes(pickle.value)
    described, stored = fields.get("state_dict_metadata"), fields.get("storage_data")
    if not isinstance(described, dict) or not isinstance(stored, dict) or "planner_data" not in fields:
        raise BadPickleError("it says nothing of tensors and where they are stored")
    places = dict(_places(stored))
    paths = _paths(described, fields["planner_data"])
    entries = [
        _entry(key, value, paths[key], places)
        for key, value in described.items()
        if isinstance(key, str) and getattr(value, "name", "").endswith(_TENSOR)
    ]
    _check_stored(described, entries, places)
    version = fields.get("version")
    return Metadata(
        entries=tuple(entries),
        num_objects=len(described) - len(entries),
        files=frozenset(file for file, *_ in places.values()),
        archives=tuple(
            Archive(str(key), file, offset, nbytes, not transforms)
            for (key, _), (file, offset, nbytes, transforms) in places.items()
        ),
        version=version if isinstance(version, str) and version.isprintable() else "",
    )


_Place = tuple[str, int, int, tuple[str, ...]]
"""File, offset, length, transforms."""


def _places(stored: Mapping[object, object]) -> Iterator[tuple[tuple[object, object], _Place]]:
    """Yield where each chunk lies, by the name of its tensor and its first index."""
    for index, info in stored.items():
        of_index, of_info = attributes(index), attributes(info)
        file, offset, nbytes = (of_info.get(key) for key in ("relative_path", "offset", "length"))
        if not isinstance(of_index.get("fqn"), str):
            raise BadPickleError("it stores something without a name")
        if not isinstance(file, str) or not is_size(offset) or not is_size(nbytes):
            raise BadPickleError(f"it stores {brief(of_index.get('fqn'))} in no place")
        if not is_plain_name(file):
            raise EscapeError(
                f"it stores {brief(of_index.get('fqn'))} in {brief(file)}, which is no file of its folder",
                remedy="do not load this checkpoint: a loader would open that path",
            )
        transforms = of_info.get("transform_descriptors") or ()
        texts = tuple(str(item) for item in transforms) if isinstance(transforms, (tuple, list)) else ("unknown",)
        yield (of_index.get("fqn"), sizes_of(of_index.get("offset"))), (file, offset, nbytes, texts)


def _paths(described: Iterable[object], stated: object) -> dict[object, tuple[str, ...]]:
    """Return where everything was in the state dict; where torch flattened that, a name is its path, joined by dots."""
    given = stated if isinstance(stated, dict) else {}
    texts = {key: tuple(map(str, path)) for key, path in given.items() if isinstance(path, tuple)}
    if not texts:
        return {key: (str(key),) for key in described}
    paths = {key: texts.get(key, ()) for key in described}
    for key, path in paths.items():
        if ".".join(path) != key:
            where = f"at {brief('.'.join(path))}" if path else "in no place"
            raise BadPickleError(f"in the state dict it has {brief(key)} {where}")
    return paths


def _check_stored(
    described: Iterable[object], entries: Iterable[Entry], places: Mapping[tuple[object, object], _Place]
) -> None:
    """Check that all that is stored is described, and the other way round, each in a place of its own.

    torch writes both from one list; a damaged name would hide what it names. Of tensors `_entry` has found the places.
    """
    of_tensors = {(entry.key, chunk.start) for entry in entries for chunk in entry.chunks}
    objects = set(described) - {key for key, _ in of_tensors}
    for key in objects:
        if (key, None) not in places:
            raise BadPickleError(f"it does not say where {brief(key)} is stored")
    for key, start in places:
        if (key, start) not in of_tensors and (start is not None or key not in objects):
            raise BadPickleError(f"it stores {brief(key)}, and does not say what that is")
    ends: dict[str, tuple[int, object]] = {}
    laid = sorted((file, offset, nbytes, str(key)) for (key, _), (file, offset, nbytes, _) in places.items() if nbytes)
    for file, offset, nbytes, key in laid:
        end, before = ends.get(file, (0, ""))
        if offset < end:
            both = f"{brief(before)} and {brief(key)}"
            raise BadPickleError(f"it stores {both} in one place, byte {offset:,} of {brief(file)}")
        ends[file] = (offset + nbytes, key)


def _entry(key: str, value: object, path: tuple[str, ...], places: Mapping[tuple[object, object], _Place]) -> Entry:
    fields = attributes(value)
    shape, chunks = sizes_of(fields.get("size")), fields.get("chunks")
    properties = getattr(fields.get("properties"), "state", None)
    dtype = properties[0] if isinstance(properties, tuple) and properties else None
    if shape is None or not isinstance(chunks, list) or not isinstance(dtype, Global):
        raise BadPickleError(f"it does not say of which type and size {brief(key)} is")
    found = []
    for chunk in map(attributes, chunks):
        start, sizes = sizes_of(chunk.get("offsets")), sizes_of(chunk.get("sizes"))
        if start is None or sizes is None or not len(start) == len(sizes) == len(shape):
            raise BadPickleError(f"it has a chunk of {brief(key)} that is no part of it")
        if any(begin + size > whole for begin, size, whole in zip(start, sizes, shape, strict=True)):
            raise BadPickleError(f"it has a chunk of {brief(key)} that is no part of it")
        if (key, start) not in places:
            raise BadPickleError(f"it does not say where {brief(key)} from {brief(start)} on is stored")
        file, offset, nbytes, transforms = places[key, start]
        found.append(Chunk(start=start, shape=sizes, file=file, offset=offset, nbytes=nbytes, transforms=transforms))
    return Entry(
        key=key,
        path=path,
        dtype=DTYPES.get(dtype.name, dtype.name),
        shape=shape,
        chunks=tuple(found),
    )
