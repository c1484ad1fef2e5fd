"""Which files of a checkpoint what it is depends on, told by their names: the others may differ between nodes.

A trainer that saves on each node writes its log and arguments there, too, with the name of the node or times in them.
"""

from __future__ import annotations

from typing import Final

from orz_ckpt.formats.hf import SETTINGS_NAMES, is_index
from orz_ckpt.inventory import WEIGHTS_SUFFIXES

_OF_A_NODE: Final = ("training_args.", "rng_state")
"""How the names begin of what a process says of itself alone, though they end as those of weights do."""
_READ_BY_LOADERS: Final = frozenset({*SETTINGS_NAMES, "tekken.json", "params.json", "latest", "latest_universal"})
_BEGINNINGS: Final = ("tokenizer", "chat_template", "vocab", "merges", "special_tokens", "added_tokens")
"""How the names of a tokenizer's files begin, whatever version or format their ends say."""
_SUFFIXES: Final = ("config.json", ".metadata", ".jinja", ".py", ".model", ".tiktoken", ".spm")


def decides(name: str) -> bool:
    """Return whether a file is one of weights or of a trainer's state, an index, a configuration or of a tokenizer.

    Args:
        name: relative to the checkpoint's folder, `/` between parts.
    """
    last = name.rpartition("/")[2]
    if last.endswith(WEIGHTS_SUFFIXES):
        return not last.startswith(_OF_A_NODE)
    return last in _READ_BY_LOADERS or last.startswith(_BEGINNINGS) or last.endswith(_SUFFIXES) or is_index(last)
