"""Will the folder still be there tomorrow?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.mounts import find_mount, in_ray_session
from orz_ckpt.findings import CkptFinding, finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOVE: Final = "copy it to a disk that stays"


def check_place(path: Path) -> Iterator[CkptFinding]:
    """Say whether `path` lies where files do not last: in a folder that Ray made, in memory, in a container's layer."""
    real = resolved(path)
    if in_ray_session(real):
        message = f"it lies in {real}, inside a folder that Ray made and removes when it likes"
        yield finding("piece_in_ray_session", message, remedy=f"{_MOVE} now", path=path)
        return
    mount = find_mount(real)
    if mount is not None and mount.ephemeral:
        kept = "in memory" if mount.in_memory else "in the layer of a container"
        message = f"it is kept {kept} ({mount.fstype} at {mount.point}), and is lost when that ends"
        yield finding("path_ephemeral", message, remedy=_MOVE, path=path)
