"""Whether other nodes' files are here: opened by a name that this node has never looked up.

A folder listing, or a name that was looked up before it was there, may be answered from the cache of a network file
system for a minute (NFS: `acdirmax`, negative entries). Opening a new name asks the server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orz_ckpt.node.probe import PROBES_DIR

MAX_NONCE_BYTES: Final = 256
_PAUSE_S: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """What this node sees of another node's file."""

    seen: bool
    """Whether it is there with the right content."""
    exclusive: bool = True
    """Whether creating it once more is refused, as it has to be."""
    waited_s: float = 0.0
    error: str = ""


def look(asked: str, *, attempt: str, nonces: Mapping[str, str], patience_s: float) -> dict[str, Sight]:
    """Open the files of other nodes in `asked`.

    Args:
        asked: the folder, as given to `probe`.
        attempt: name of this preflight.
        nonces: name of each file, and what has to be in it.
        patience_s: how long to try again where something is not there yet.
    """
    folder = Path(asked).absolute() / PROBES_DIR / attempt
    begin = time.monotonic()
    sights: dict[str, Sight] = {}
    while True:
        waited = time.monotonic() - begin
        for name, nonce in nonces.items():
            if name not in sights or not sights[name].seen:
                sights[name] = _open(folder / name, nonce, waited)
        if waited >= patience_s or all(sight.seen for sight in sights.values()):
            return sights
        time.sleep(_PAUSE_S)


def _open(path: Path, nonce: str, waited_s: float) -> Sight:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_NONCE_BYTES)
    except OSError as error:
        return Sight(seen=False, waited_s=waited_s, error=error.strerror or str(error))
    if content != nonce.encode("ascii"):
        return Sight(seen=False, waited_s=waited_s, error="another content")
    return Sight(seen=True, exclusive=_refused_again(path), waited_s=waited_s)


def _refused_again(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except OSError:
        return True
    os.close(descriptor)
    return False
