"""A folder that DeepSpeed saved into and that holds no shard of any save: `latest`, and nothing of what it names.

Rank 0 writes `latest` and, with ZeRO, a copy of `zero_to_fp32.py` (DeepSpeed 0.19.8, `runtime/engine.py`:
`save_checkpoint`, `_copy_recovery_script`). Where they lie alone, the shards were deleted, or are on other nodes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.model import may_hold_weights
from orz_ckpt.disk.walk import files_below
from orz_ckpt.errors import EscapeError, FormatError
from orz_ckpt.readers.deepspeed.reader import read
from orz_ckpt.readers.deepspeed.tags import LATEST_NAME, read_latest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read", "recognises"]

_SCRIPT: Final = "zero_to_fp32.py"
_TAG: Final = re.compile(r"global_step\d{1,18}", re.ASCII)
"""What DeepSpeed calls a save to which no name was given."""


def recognises(path: Path) -> bool:
    """Return whether DeepSpeed saved into `path`, and neither a file of weights nor a link to a folder is left in it.

    It did if `latest` lies beside its script, or names a tag as DeepSpeed does: any program may have a file so named.
    """
    latest = path / LATEST_NAME
    try:
        if not (latest.is_file() and ((path / _SCRIPT).is_file() or _TAG.fullmatch(read_latest(latest)))):
            return False
        return not any(may_hold_weights(file.name) or file.is_dir() for file in files_below(path))  # a link to a folder
    except (FormatError, EscapeError, OSError):
        return False
