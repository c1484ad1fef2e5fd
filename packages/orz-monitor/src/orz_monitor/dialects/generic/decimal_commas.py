"""Commas in numbers: of decimals in some countries, between thousands in others, between several numbers elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from orz_monitor.dialects.generic.keys import known_name
from orz_monitor.dialects.generic.named_numbers import NamedNumber

_DECIMAL: Final = re.compile(
    rb"(?P<whole>[-+]?(?:\d{1,15}(?=,(?!\d{3}(?!\d)))|0)),(?P<rest>\d{1,20}(?:[eE][-+]?\d{1,4})?)"
)
"""A number with a comma that can't be one between thousands."""
UNDECIDED: Final = b"? "
"""Stands before what may be a number, or several."""
_POINT: Final = re.compile(rb"\d\.\d")


def has_decimal_commas(found: Sequence[NamedNumber]) -> bool:
    """Tell whether a line has a known metric with a decimal comma, and no number with a point."""
    return any(_is_decimal(one) for one in found) and not any(_POINT.search(one.token) for one in found)


def with_points(found: Sequence[NamedNumber]) -> list[NamedNumber]:
    """Return the numbers of a line with decimal commas: those of known metrics with a point, others as no numbers.

    What may have commas between thousands, such as `1,250`, is none here, and neither is `gpus=0,1`.

    Example:
        >>> line = [NamedNumber(b"loss", b"0,5"), NamedNumber(b"reward", b"1,250"), NamedNumber(b"gpus", b"0,1")]
        >>> [one.token for one in with_points(line)]
        [b'0.5', b'? 1,250', b'? 0,1']
    """
    return [
        one._replace(token=_DECIMAL.sub(rb"\g<whole>.\g<rest>", one.token))
        if _is_decimal(one)
        else one._replace(token=UNDECIDED + one.token if b"," in one.token else one.token)
        for one in found
    ]


def _is_decimal(one: NamedNumber) -> bool:
    """Tell whether a number is a known metric's, and has a decimal comma."""
    return _DECIMAL.fullmatch(one.token) is not None and known_name(one.key.decode("utf-8", "replace")) is not None
