"""Do the index and the shards hold the same tensors, each exactly once?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.checks.same_names import slices_of_ranks, without_variants
from orz_ckpt.errors import FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.hf import HfFolder, Index, UnsafeShardError, read_index
from orz_ckpt.quoting import brief
from orz_ckpt.unfinished import GO_ON_MERGING, is_merging

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Header

_MISSING_SHARD = "copy this shard again; where several nodes saved, `orz ckpt locate RUN --ray` says which has it"
_SAVE_AGAIN = "save the model again; its index is written last"
_ONE_FILE = "give one of these files instead of the folder, or move away those of the other save"
_MAX_NAMED = 10


def check_index(folder: HfFolder, headers: Mapping[Path, Header]) -> tuple[list[CkptFinding], list[Path]]:
    """Check the index of `folder`, or that it needs none.

    Returns:
        What was found, and the weights that a loader takes: those that the index names, without one
        the single file, without that all but variants of others, or none where they are slices. Some folders hold
        a second copy in another layout.
    """
    if not folder.indexes:
        shards = [file for file in folder.weights if folder.layout.shard.fullmatch(file.name)]
        single = [file for file in folder.weights if file.name == folder.layout.single]
        if shards:
            return _without_index(folder, shards, [file for file in single if file in headers])
        loaded = single or without_variants(folder.weights, headers)
        sliced = slices_of_ranks(folder.path, loaded)
        return (sliced, []) if sliced else (list(_held_twice(loaded, headers)), loaded)
    findings: list[CkptFinding] = []
    named: set[str] = set()
    for path in folder.indexes:
        try:
            index = read_index(path)
        except UnsafeShardError as error:
            message = error.message.removeprefix(f"{path}: ")
            findings.append(finding("path_escapes", message, remedy=error.remedy, path=path))
        except FormatError as error:
            message = error.message.removeprefix(f"{path}: ")
            findings.append(finding("index_invalid", message, remedy=_SAVE_AGAIN, path=path))
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            findings.append(finding("unreadable", message, remedy=READ_AGAIN, path=path))
        else:
            findings += _compare(folder, path, index, headers)
            if path.name == folder.layout.index or len(folder.indexes) == 1:
                named |= set(index.weight_map.values())
    return findings, [file for file in folder.weights if file.name in named]


def _without_index(folder: HfFolder, shards: list[Path], single: list[Path]) -> tuple[list[CkptFinding], list[Path]]:
    """Say what shards are that no index names: the start of a save that was cut off, or what another one left.

    Args:
        folder: that they lie in.
        shards: by name.
        single: the sound file beside them that loaders take in place of shards; empty where there is none.

    Returns:
        What was found, and the weights that a loader takes.
    """
    if not single:
        merged = is_merging(folder.path)
        why = "a merge is writing this folder, or was cut off" if merged else "the save was cut off"
        message = f"there are shards ({shards[0].name}, ...) and no index: {why}"
        remedy = GO_ON_MERGING if merged else _SAVE_AGAIN
        return [finding("index_invalid", message, remedy=remedy, path=folder.path)], []
    name = single[0].name
    whole = _whole_saves(shards)
    findings: list[CkptFinding] = []
    for save in whole:
        message = f"there are {len(save)} shards ({save[0].name}, ...) without an index beside {name}: two saves"
        remedy = f"remove the shards if {name} is the save that you want; else remove that, and {_SAVE_AGAIN}"
        findings.append(finding("index_invalid", message, remedy=remedy, path=folder.path))
    message = f"it is a part of another save, and no index names it; loaders take {name} beside it"
    rest = [shard for shard in shards if not any(shard in save for save in whole)]
    findings += [finding("shard_orphan", message, remedy="remove it", path=shard) for shard in rest]
    return findings, [] if whole else single


def _whole_saves(shards: list[Path]) -> list[list[Path]]:
    """Return the shards of each save that is whole: as many as their names say, as `model-00001-of-00002` does."""
    saves: dict[int, list[Path]] = {}
    for shard in shards:
        saves.setdefault(int(shard.stem.rpartition("-")[2]), []).append(shard)
    return [save for stated, save in saves.items() if stated == len(save)]


def _compare(folder: HfFolder, path: Path, index: Index, headers: Mapping[Path, Header]) -> Iterator[CkptFinding]:
    named = set(index.weight_map.values())
    present = {file.name: file for file in folder.weights}
    for name in sorted(named - present.keys()):
        count = sum(file == name for file in index.weight_map.values())
        message = f"it is not there; the index says that it holds {count} tensors"
        yield finding("file_missing", message, remedy=_MISSING_SHARD, path=folder.path / name)
    for name in sorted(present.keys() - named):
        if name == folder.layout.single or folder.layout.shard.fullmatch(name):
            message = f"{path.name} does not name it; a loader may take its weights instead"
            yield finding("shard_orphan", message, remedy="remove it", path=present[name])

    shards = {name: headers[present[name]] for name in named & present.keys() if present[name] in headers}
    yield from _limited(path, _differences(index, shards))
    total = sum(header.data_bytes for header in shards.values())
    if len(shards) == len(named) and index.total_bytes is not None and index.total_bytes != total:
        message = f"total_size is {index.total_bytes:,}, the shards hold {total:,} bytes of tensors"
        yield finding("total_size_differs", message, remedy=_SAVE_AGAIN, path=path)


def _differences(index: Index, shards: Mapping[str, Header]) -> Iterator[tuple[str, str]]:
    """Yield a tensor and what is wrong with it; shards without a sound header are left out."""
    held = {(tensor.name, file) for file, header in shards.items() for tensor in header.tensors}
    for name, file in sorted(index.weight_map.items()):
        if file in shards and (name, file) not in held:
            yield name, f"the index says it is in {file}, and it is not"
    for name, file in sorted(held):
        if name not in index.weight_map:
            yield name, f"{file} holds it, and the index does not name it"
    for name, count in sorted(Counter(name for name, _ in held).items()):
        if count > 1:
            yield name, f"{count} shards hold it"


def _held_twice(files: Sequence[Path], headers: Mapping[Path, Header]) -> Iterator[CkptFinding]:
    """Say which tensors are in several files, of which no index says what counts."""
    first: dict[str, Path] = {}
    number = 0
    for file in files:
        for tensor in headers[file].tensors if file in headers else ():
            home = first.setdefault(tensor.name, file)
            number += home != file
            if home != file and number <= _MAX_NAMED:
                message = f"{brief(tensor.name)}: {brief(home.name)} holds it, too, and no index says which one counts"
                yield finding("elements_differ", message, remedy=_ONE_FILE, path=file, tensor=tensor.name)
    if number > _MAX_NAMED:
        message = f"and {number - _MAX_NAMED} more tensors that several files hold"
        yield finding("elements_differ", message, remedy=_ONE_FILE, path=files[0].parent)


def _limited(path: Path, differences: Iterator[tuple[str, str]]) -> Iterator[CkptFinding]:
    found = list(differences)
    for name, message in found[:_MAX_NAMED]:
        yield finding("index_differs", f"{brief(name)}: {message}", remedy=_SAVE_AGAIN, path=path, tensor=name)
    if len(found) > _MAX_NAMED:
        message = f"and {len(found) - _MAX_NAMED} more tensors of which index and shards differ"
        yield finding("index_differs", message, remedy=_SAVE_AGAIN, path=path)
