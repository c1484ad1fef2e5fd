"""Safetensors files of one folder that hold the same tensor names by design: variants of a file, slices of ranks.

Layouts: `save_pretrained(variant=...)` of diffusers and transformers; `sharded_state` of vLLM.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.safetensors import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Header

_SLICES: Final = re.compile(r"model-rank-\d+-part-\d+\.safetensors", re.ASCII)
"""As vLLM's `ShardedStateLoader` names them."""
_SAVE_WHOLE: Final = "save the model as a Hugging Face folder, with `save_pretrained`, or use the one that vLLM loaded"


def without_variants(files: Iterable[Path], headers: Mapping[Path, Header]) -> list[Path]:
    """Return `files` without those that loaders take only where they are told to.

    `STEM.VARIANT.safetensors` is a variant of `STEM.safetensors`, such as another precision, if it holds the same
    tensors, of the same shapes. Otherwise it is no variant: without it, tensors might be lost.
    """
    files = list(files)
    plain = {file.name: file for file in files if file in headers}

    def is_variant(file: Path) -> bool:
        stem, _, variant = file.name.removesuffix(SUFFIX).rpartition(".")
        other = plain.get(stem + SUFFIX) if stem and variant and file in headers else None
        return other is not None and _shapes(headers[file]) == _shapes(headers[other])

    return [file for file in files if not is_variant(file)]


def slices_of_ranks(folder: Path, files: Sequence[Path]) -> list[CkptFinding]:
    """Say that files in `folder` are slices, by their names; nothing where they are not."""
    slices = [file.name for file in files if _SLICES.fullmatch(file.name)]
    if not slices:
        return []
    others = f" and {len(slices) - 1} more" if len(slices) > 1 else ""
    message = (
        f"{slices[0]}{others}: slices of tensor-parallel ranks, as vLLM's sharded_state writes them, "
        "which nothing here can put together"
    )
    return [finding("layout_unsupported", message, remedy=_SAVE_WHOLE, path=folder)]


def _shapes(header: Header) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.shape) for tensor in header.tensors}
