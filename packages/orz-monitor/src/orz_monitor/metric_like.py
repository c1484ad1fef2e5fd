"""Lines that look like metrics, so that those which nobody understood can be counted."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

_PAIR: Final = re.compile(
    rb"(?<![\w/.])[A-Za-z_][\w/.@-]{0,80}['\"]?[ \t]?[:=][ \t]?(?:np\.\w{1,12}\()?['\"]?[-+]?\.?\d"
)
_FEWEST: Final = 3
_LOOKED_AT_BYTES: Final = 1 << 12


def is_metric_like(line: bytes) -> bool:
    """Tell whether a line has three or more names with numbers, in its first 4 KiB.

    Example:
        >>> is_metric_like(b"step:3 - actor/pg_loss:0.5 - actor/kl=1e-3")
        True
        >>> is_metric_like(b"12:30:01 [worker.py:35] step 3: loading shard=7 of 9")
        False
    """
    return sum(1 for _ in islice(_PAIR.finditer(line, 0, _LOOKED_AT_BYTES), _FEWEST)) == _FEWEST
