"""Items that hold more than one number: `Trainable 48/64 (75.0%)`, `generation: 4.95s (13.9%)`."""

from __future__ import annotations

import re
from typing import Final

_ITEM: Final = re.compile(rb"(?P<value>[^()]{1,80}?) ?(?:\((?P<aside>[^()]{1,80})\))?$")
_OF: Final = re.compile(rb"(?P<count>\d{1,15})/(?P<of>\d{1,15})$")
_LEADING: Final = re.compile(rb"[-+]?\d[\d.]{0,20}(?:[eE][-+]?\d{1,3})?(?: ?%| ?[kMGT]?FLOPS\b)?")


def item_pairs(key: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    """Return every number of an item, with a key of its own.

    Example:
        >>> item_pairs(b"Trainable", b"48/64 (75.0%)")
        [(b'Trainable', b'48'), (b'Trainable/of', b'64'), (b'Trainable/aside', b'75.0%')]
    """
    match = _ITEM.match(value.strip())
    if match is None:
        return [(key, value)]
    pairs = [(key, match["value"])]
    if parts := _OF.match(match["value"]):
        pairs = [(key, parts["count"]), (key + b"/of", parts["of"])]
    if match["aside"] is not None:
        leading = _LEADING.match(match["aside"])
        pairs.append((key + b"/aside", leading[0] if leading is not None else match["aside"]))
    return pairs
