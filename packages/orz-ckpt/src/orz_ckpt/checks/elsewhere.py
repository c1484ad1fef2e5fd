"""Who wrote what is missing here, this machine or another node? What nodes recorded before the commit tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.inventory import CHECKPOINTS_DIR
from orz_ckpt.manifest import Manifest
from orz_ckpt.quoting import locate_command
from orz_ckpt.records import PATH_KEY, is_this_machine, node_records
from orz_ckpt.report.words import count, size

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

COPY_AGAIN: Final = "copy the checkpoint again from where it was saved, or use another one"
_MAX_NAMED: Final = 3


def weights_elsewhere(root: Path, *, known: Collection[str] = ()) -> Iterator[CkptFinding]:
    """Yield a finding for each node that recorded files of the step folder `root` that are not here.

    Args:
        root: the folder.
        known: files that its manifest names; that one of them is missing is told without this.
    """
    for path, record in node_records(root):
        if not isinstance(record, Manifest):
            continue
        missing = [name for name in record.files if name not in known and not (root / name).is_file()]
        if missing:
            yield _lost(root, path.name.removeprefix("manifest-").removesuffix(".json"), record, missing)


def _lost(root: Path, node: str, record: Manifest, missing: list[str]) -> CkptFinding:
    """Say which files that `node` recorded are not here: gone from this disk, or never on it."""
    there = record.meta.get(PATH_KEY)
    nbytes = sum(record.files[name].size for name in missing)
    files = f"{count(len(missing), 'file')} of {len(record.files):,}, {size(nbytes)}"
    be = "was" if len(missing) == 1 else "were"
    names = f"{', '.join(missing[:_MAX_NAMED])}{', ...' if len(missing) > _MAX_NAMED else ''}"
    by = f"by node {node}{f' to {there}' if isinstance(there, str) else ''}"
    if there is None or is_this_machine(node):  # a save to one folder alone records no path: all of it was in this one
        which = ", this machine," if is_this_machine(node) else ""
        message = (
            f"{files}, {be} saved {by}{which} and {be} deleted since, or left out when the folder was copied: {names}"
        )
        return finding("file_missing", message, remedy=COPY_AGAIN, path=root)
    message = f"{files}, {be} written {by}, and {'is' if be == 'was' else 'are'} not on this machine's disk: {names}"
    return finding("weights_elsewhere", message, remedy=locate_remedy(root), path=root)


def locate_remedy(root: Path) -> str:
    """Return the command that finds the parts of the step folder `root` on other nodes."""
    return f"{locate_command(run_of(root))}    # on a node of the cluster, or --hosts"


def run_of(root: Path) -> Path:
    """Return the run that the step folder `root` belongs to, as its path tells."""
    return root.parent.parent if root.parent.name == CHECKPOINTS_DIR else root
