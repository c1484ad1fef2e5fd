"""Are the weights of the type that the configuration states, and are tied weights alike?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.cast import TORCH_NAMES
from orz_ckpt.tensors.names import EMBEDDINGS, HEADS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.formats.safetensors import Header


def check_types(config_path: Path, config: Mapping[str, object], headers: Iterable[Header]) -> Iterator[CkptFinding]:
    """Compare the type of most weights with the one that `config.json` states, where it states one."""
    stated = config.get("dtype") or config.get("torch_dtype")
    if stated not in TORCH_NAMES.values() or config.get("quantization_config"):
        return
    sizes: Counter[str] = Counter()
    for header in headers:
        for tensor in header.tensors:
            if tensor.dtype in TORCH_NAMES:
                sizes[TORCH_NAMES[tensor.dtype]] += tensor.nbytes
    if not sizes or stated in sizes:
        return
    usual, nbytes = sizes.most_common(1)[0]
    message = f"config.json says {stated}, and none of the weights is: {nbytes:,} bytes are {usual}"
    remedy = f"right if a loader is to cast them; else `orz ckpt merge --dtype {stated}` writes them so"
    yield finding("dtype_differs", message, remedy=remedy, path=config_path)


def tied_pair(config: Mapping[str, object], names: Collection[str]) -> tuple[str, str] | None:
    """Return head and embedding where the configuration ties them and both are stored."""
    if not config.get("tie_word_embeddings"):
        return None
    heads = [name for name in names if name.endswith(HEADS)]
    embeddings = [name for name in names if name.endswith(EMBEDDINGS)]
    return (heads[0], embeddings[0]) if len(heads) == 1 and len(embeddings) == 1 else None


def check_tied(folder: Path, pair: tuple[str, str], digests: Mapping[str, str]) -> Iterator[CkptFinding]:
    """Compare both copies of a tied weight by their digests."""
    head, embedding = pair
    if {head, embedding} <= digests.keys() and digests[head] != digests[embedding]:
        message = (
            f"{brief(head)} and {brief(embedding)} differ, and config.json ties them: a loader drops one of the two"
        )
        remedy = "set tie_word_embeddings to false if the head was trained on its own"
        yield finding("tie_differs", message, remedy=remedy, path=folder, tensor=head)
