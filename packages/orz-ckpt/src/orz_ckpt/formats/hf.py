"""A Hugging Face folder: `config.json`, weights in one safetensors file or in shards with an index, a tokenizer.

transformers 5.19, `modeling_utils.py` (`save_pretrained`: shards and their index) and `utils/__init__.py` (file names);
huggingface_hub 2.4, `serialization/_base.py` (how the shards are cut).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.plain import open_plain
from orz_ckpt.errors import FormatError
from orz_ckpt.formats.safetensors import SUFFIX
from orz_ckpt.memory import memory_for
from orz_ckpt.quoting import brief
from orz_ckpt.strict_json import FieldError, JsonError, as_object, is_size, object_field, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

CONFIG_NAME: Final = "config.json"
INDEX_NAME: Final = "model.safetensors.index.json"
INDEX_SUFFIX: Final = ".safetensors.index.json"
SINGLE_NAME: Final = "model.safetensors"
SHARD_NAME: Final = re.compile(r"model-\d{5}-of-\d{5}\.safetensors", re.ASCII)
TOKENIZER_NAMES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
SETTINGS_NAMES: Final = frozenset(
    {
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
    }
)
"""JSON files that a loader reads beside `config.json`."""
PICKLE_SUFFIXES: Final = (".bin", ".pt", ".pth")

_MAX_JSON_BYTES: Final = 64 * 1024 * 1024
_INDEX_MEMORY_BYTES: Final = 190 * 1024 * 1024
"""What an index may take when it is read: some 350,000 tensors."""
_ENTRY_BYTES: Final = 320
"""Of a tensor in an index that is being read, beside three times its text: two texts and their places in two mappings.
Measured with CPython 3.11."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How the weights of a folder are named, in one format."""

    single: str
    shard: re.Pattern[str]
    index: str
    index_suffix: str


SAFETENSORS: Final = Layout(single=SINGLE_NAME, shard=SHARD_NAME, index=INDEX_NAME, index_suffix=INDEX_SUFFIX)
TORCH: Final = Layout(
    single="pytorch_model.bin",
    shard=re.compile(r"pytorch_model-\d{5}-of-\d{5}\.bin", re.ASCII),
    index="pytorch_model.bin.index.json",
    index_suffix=".bin.index.json",
)
"""As transformers 4.x writes where it is told to, and as others still do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """Which file holds which tensor, as `model.safetensors.index.json` says."""

    weight_map: Mapping[str, str]
    total_bytes: int | None
    """Bytes of all tensors; None where the index does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HfFolder:
    """The files of a Hugging Face folder, by what they are for."""

    path: Path
    config: Path | None
    layout: Layout
    """Of the weights that a loader takes: it prefers safetensors."""
    indexes: tuple[Path, ...]
    """Of that layout."""
    weights: tuple[Path, ...]
    """Of that layout, by name."""
    pickles: tuple[Path, ...]
    """Files of torch, weights or not: optimizers, states of generators, arguments of a trainer."""
    code: tuple[Path, ...]
    tokenizer: tuple[Path, ...]
    settings: tuple[Path, ...] = ()
    """JSON files that a loader reads beside `config.json`."""

    @property
    def recognised(self) -> bool:
        """Whether anything here says that this is such a folder."""
        return bool(self.config or self.indexes or self.weights)


def arrange(path: Path, files: Iterable[Path]) -> HfFolder:
    """Sort the files of the folder `path` by what they are for; none is read."""
    files = sorted(files)
    weights = tuple(file for file in files if file.suffix == SUFFIX)
    pickled = tuple(file for file in files if file.name == TORCH.single or TORCH.shard.fullmatch(file.name))
    indexes = tuple(file for file in files if file.name.endswith(INDEX_SUFFIX))
    pickled_indexes = tuple(file for file in files if file.name.endswith(TORCH.index_suffix))
    safe = bool(weights or indexes or not (pickled or pickled_indexes))
    return HfFolder(
        path=path,
        config=next((file for file in files if file.name == CONFIG_NAME), None),
        layout=SAFETENSORS if safe else TORCH,
        indexes=indexes if safe else pickled_indexes,
        weights=weights if safe else pickled,
        pickles=tuple(file for file in files if file.suffix in PICKLE_SUFFIXES),
        code=tuple(file for file in files if file.suffix == ".py"),
        tokenizer=tuple(file for file in files if file.name in TOKENIZER_NAMES),
        settings=tuple(file for file in files if file.name in SETTINGS_NAMES),
    )


def read_config(path: Path) -> dict[str, object]:
    """Read `config.json`.

    Raises:
        FormatError: it is not one JSON object.
        OSError: it cannot be read.
    """
    return _read_object(path)


def read_index(path: Path) -> Index:
    """Read `model.safetensors.index.json`.

    Raises:
        FormatError: it is not an index, names more tensors than memory is allowed for, or a file outside its folder.
        OSError: it cannot be read.
    """
    data = _read(path)
    _check_entries(path, data)
    document = _object(path, data)
    try:
        weight_map = object_field(document, "weight_map")
        for name, file in weight_map.items():
            if not isinstance(file, str) or not is_plain_name(file):
                raise UnsafeShardError(
                    f"{path}: weight_map.{brief(name)}: {brief(file)} is not the name of a file in this folder",
                    remedy="do not load this folder: a loader would open that path",
                )
        total_bytes = _total_bytes(document)
    except FieldError as error:
        raise FormatError(f"{path}: not an index of shards: {error}", remedy="save the model again") from None
    return Index(weight_map={name: str(file) for name, file in weight_map.items()}, total_bytes=total_bytes)


class UnsafeShardError(FormatError):
    """An index names a file outside its folder."""


def is_index(name: str) -> bool:
    """Return whether a file is named as an index of shards, of either format."""
    return name.endswith((SAFETENSORS.index_suffix, TORCH.index_suffix))


def is_plain_name(name: str) -> bool:
    """Return whether `name` is a file name and no path, on any system."""
    return (
        name not in {"", ".", ".."}
        and name.isprintable()
        and "/" not in name
        and "\\" not in name
        and not PureWindowsPath(name).drive
    )


def _total_bytes(document: Mapping[str, object]) -> int | None:
    total = as_object(document.get("metadata", {}), where="metadata").get("total_size")
    # Some writers state it as 12.0; whole is what matters.
    if isinstance(total, float) and total.is_integer():
        total = int(total)
    if total is not None and not is_size(total):
        raise FieldError(f"metadata.total_size: expected an integer >= 0, got {brief(total)}")
    return total


def _check_entries(path: Path, data: bytes) -> None:
    """Check what an index will take: each tensor has texts of its own, which other documents have fewer of."""
    count = data.count(b",") + 1
    needed = count * _ENTRY_BYTES + 3 * len(data)
    if needed > _INDEX_MEMORY_BYTES:
        raise FormatError(
            f"{path}: its {count:,} entries would take about {needed:,} bytes of memory; "
            f"{_INDEX_MEMORY_BYTES:,} are allowed",
            remedy="no model has so many tensors: look at what wrote it, and save the model again",
        )


def _read_object(path: Path) -> dict[str, object]:
    return _object(path, _read(path))


def _read(path: Path) -> bytes:
    """Return the bytes of a JSON file, none of them read where they are too many."""
    with memory_for(path), open_plain(path) as stream:
        nbytes = os.fstat(stream.fileno()).st_size
        data = stream.read(_MAX_JSON_BYTES + 1) if nbytes <= _MAX_JSON_BYTES else b""
    nbytes = max(nbytes, len(data))
    if nbytes > _MAX_JSON_BYTES:
        raise FormatError(
            f"{path}: it has {nbytes:,} bytes; {_MAX_JSON_BYTES:,} are allowed, and no such file needs more",
            remedy="copy or save the file again",
        )
    return data


def _object(path: Path, data: bytes) -> dict[str, object]:
    try:
        with memory_for(path):
            return as_object(parse(data), where="the document")
    except (FieldError, JsonError) as error:
        raise FormatError(f"{path}: not a JSON object: {error}", remedy="copy or save the file again") from None
