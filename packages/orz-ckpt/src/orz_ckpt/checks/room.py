"""Is there room on the disk for the next save?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.checks.elsewhere import run_of
from orz_ckpt.disk.folder import free_bytes, size_bytes
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.mounts import find_mount
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.inventory import step_of
from orz_ckpt.quoting import shell_path
from orz_ckpt.report.words import size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def check_room(step: Path) -> Iterator[CkptFinding]:
    """Say whether the disk has less room than the step folder `step` takes: the next one is written beside it.

    What the file system states is believed; nothing is written. Where nothing more can be saved, on a disk that is
    mounted read-only, nothing is said, nor of an object store, which states no room.
    """
    folder = resolved(step).parent
    mount = find_mount(folder)
    if mount is not None and (mount.read_only or mount.bucket):
        return
    try:
        nbytes = size_bytes(step)
    except OSError:
        return  # listing its files has said so
    free = free_bytes(folder)
    if free is not None and free < nbytes:
        message = f"the disk has {size(free)} free, and {step.name} takes {size(nbytes)}: another like it does not fit"
        remedy = "free some space before the next save"
        if step_of(step) is not None:
            remedy += f"; which old steps could go: orz ckpt prune {shell_path(run_of(step))} --keep-last 2"
        yield finding("no_room_for_next", message, remedy=remedy, path=folder)
