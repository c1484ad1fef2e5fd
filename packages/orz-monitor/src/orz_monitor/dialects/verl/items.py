"""Items of a metric line of verl as text, `key:value - key:value`, of which some may be missing or broken."""

from __future__ import annotations

import re
from typing import Final

BETWEEN: Final = b" - "
STEP: Final = re.compile(rb"step:(\d{1,15})(?: - | -$|$)")
"""How a metric line begins."""
_NUMBER: Final = rb"[-+]?(?:\d{1,40}(?:\.\d{0,40})?(?:[eE][-+]?\d{1,4})?|nan|inf)"
_VALUE: Final = rb":(?:np\.\w{1,12}\(%b\)|%b|None|True|False)" % (_NUMBER, _NUMBER)
ITEM: Final = re.compile(rb"[^\s:]{1,200}" + _VALUE)
ODD_ITEM: Final = re.compile(rb"\S{1,200}" + _VALUE)
"""With a key that holds a colon, too."""
PART: Final = re.compile(rb"[^\s:]{0,200}(?::[-+\w.()]{0,60})?")
"""An item that goes on."""
_KEY_PART: Final = re.compile(rb"[^\s:]{0,199}[A-Za-z/_.\x80-\xff-]")
"""A key up to where `step` may complete it; no number and no bar ends so."""
_OPEN: Final = re.compile(rb":(?:np\.[^)]{0,60}|[-+]?|[-+]?\d[\d.]{0,60}(?:\.|[eE][-+]?)|\d\.|np?|na|in?|[-+]in?)$")
"""A value that has no end."""


def is_dangling(body: bytes) -> bool:
    """Tell whether a piece ends where another item follows."""
    return body.rstrip().endswith(b" -")


def ends_in_key(body: bytes) -> bool:
    """Tell whether a piece ends within a key, which the next piece may complete with `step`.

    Example:
        >>> [ends_in_key(body) for body in (b"step:3 - lr:1 - timing_s/", b" timing_s/", b"step:3 - lr:1", b"step:3 -")]
        [True, True, False, False]
    """
    return _KEY_PART.fullmatch(last_item(body).lstrip(b"- ")) is not None


def is_begun(body: bytes, start: int) -> bool:
    """Tell whether a line that begins as a step has an item from a place on, or the begin of one."""
    return b":" in body[start:] or is_dangling(body) or (b"/" in body and ends_in_key(body))


def has_items(piece: bytes) -> bool:
    """Tell whether a piece has several items, or parts of them."""
    return BETWEEN in piece and b":" in piece


def is_dashed(piece: bytes) -> bool:
    """Tell whether a piece begins with what stands between items."""
    return piece.lstrip().startswith(b"- ") or piece.strip() == b"-"


def is_open(body: bytes) -> bool:
    """Tell whether the last value of a line has no end."""
    return _OPEN.search(body[body.rfind(BETWEEN) + 1 :]) is not None


def is_torn(items: bytes) -> bool:
    """Tell whether items are missing or broken: one has no value, or none follows where one should.

    Example:
        >>> [is_torn(items) for items in (b" - a:1 - b:nan", b" - a:1 -", b" - a:1 - crit")]
        [False, True, True]
    """
    return is_dangling(items) or any(b":" not in item for item in items.split(BETWEEN) if item.strip())


def has_twice(body: bytes) -> bool:
    """Tell whether a line has a key twice."""
    keys = keys_of(body)
    return len(set(keys)) < len(keys)


def with_each_key_once(body: bytes) -> bytes:
    """Return a metric line as far as no key comes again: from there on nobody knows which step it tells of.

    Example:
        >>> with_each_key_once(b"step:3 - lr:1 - kl:2 - lr:4 - x:5")
        b'step:3 - lr:1 - kl:2'
    """
    if not has_twice(body):
        return body
    seen: set[bytes] = set()
    items = body.split(BETWEEN)
    for at, item in enumerate(items):
        key, mark, _ = item.rpartition(b":")
        if mark and key in seen:
            return BETWEEN.join(items[:at])
        if at:  # a metric may be named `step`, too
            seen.add(key)
    return body


def keys_of(body: bytes) -> list[bytes]:
    """Return what stands before the values of a line."""
    return [item.rpartition(b":")[0] for item in body.split(BETWEEN) if b":" in item]


def last_item(body: bytes) -> bytes:
    """Return what stands behind the last dash."""
    return body[body.rfind(BETWEEN) + len(BETWEEN) :] if BETWEEN in body else body


def without_last(body: bytes) -> bytes:
    """Leave the last item out."""
    return body[: body.rfind(BETWEEN)] if BETWEEN in body else body


def glued(before: bytes, rest: bytes) -> bytes:
    """Put two pieces together that were broken between words, or anywhere."""
    if is_dangling(before) or rest.startswith(b"- "):
        return before.rstrip() + b" " + rest.strip()
    return before + rest.rstrip()
