"""What the nodes of a save recorded of their own files, and how that adds up to one manifest."""

from __future__ import annotations

import platform
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import CkptError
from orz_ckpt.manifest import PRIVATE_DIR, FileEntry, Manifest, ManifestError, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NODES_KEY: Final = "nodes"
"""Key of a manifest's `meta`: the nodes that took part in the save; where each has a disk of its own, node -> files."""
PATH_KEY: Final = "path"
"""Key of a record's `meta`: the absolute path of the step folder on the node that wrote it."""
_MAX_RECORDS: Final = 4096


def record_name(node: str) -> str:
    """Return where the record of a node's files lies in a step folder."""
    return f"{PRIVATE_DIR}/manifest-{re.sub(r'[^A-Za-z0-9._-]', '_', node) or 'node'}.json"


def is_this_machine(node: str) -> bool:
    """Return whether a save knows this machine by the name `node`: the host name, unless two of its nodes share one."""
    return record_name(node) == record_name(platform.node() or "localhost")


def own_record(manifest: Manifest, staged: Path, final: Path) -> Manifest:
    """Return what one node records of its part: its files, its roles, and where they will be.

    Args:
        manifest: of the save, with this node's files.
        staged: the folder as it is now.
        final: its place, absolute.
    """
    roles = {role: folder for role, folder in manifest.roles.items() if (staged / folder).is_dir()}
    return replace(manifest, roles=roles, meta={**manifest.meta, PATH_KEY: str(final)})


def joined(manifest: Manifest, records: Mapping[str, Manifest]) -> Manifest:
    """Return `manifest` over the files of all nodes. A file on several nodes has to be the same on each.

    Raises:
        CkptError: two nodes wrote other bytes under one name.
    """
    files: dict[str, FileEntry] = {}
    holder: dict[str, str] = {}
    for node, record in records.items():
        for name, entry in record.files.items():
            first = files.setdefault(name, entry)
            if (first.size, first.digest) != (entry.size, entry.digest):
                raise CkptError(
                    f"{name} was written by {holder[name]} with {first.size:,} bytes, digest {first.digest[:12]},"
                    f" and by {node} with {entry.size:,} bytes, digest {entry.digest[:12]}",
                    remedy="the nodes did not save the same weights: run the same versions on all of them",
                )
            holder.setdefault(name, node)
    held: dict[str, object] = {node: sorted(record.files) for node, record in records.items()}
    return replace(manifest, files=dict(sorted(files.items())), meta={**manifest.meta, NODES_KEY: held})


def node_records(folder: Path) -> Iterator[tuple[Path, Manifest | ManifestError | OSError]]:
    """Yield the records that nodes wrote to `.orz/` before the commit, by name; what cannot be used as an error."""
    private = folder / PRIVATE_DIR
    try:
        paths = sorted(private.glob("manifest-*.json"))
    except OSError:
        return
    for path in paths[:_MAX_RECORDS]:
        try:
            yield path, load(path)
        except FileNotFoundError:
            continue  # it went away meanwhile
        except (ManifestError, OSError) as error:
            yield path, error


def same_as_manifest(folder: Path) -> Path | None:
    """Return the record that is a copy of the manifest of the step folder `folder`; None where there is none.

    A save to one folder by one node has one: what it recorded is all that was saved.
    """
    records = list(node_records(folder))
    alone = len(records) == 1 and isinstance(records[0][1], Manifest) and PATH_KEY not in records[0][1].meta
    return records[0][0] if alone else None


def nodes_of(manifest: Manifest) -> list[str]:
    """Return the nodes that took part in the save, as a manifest or one node's record says."""
    nodes = manifest.meta.get(NODES_KEY)
    return [str(node) for node in nodes] if isinstance(nodes, list | dict) else []


def holders(manifest: Manifest) -> dict[str, list[str]]:
    """Return the files that each node holds; empty where all lie on one disk."""
    nodes = manifest.meta.get(NODES_KEY)
    if not isinstance(nodes, dict):
        return {}
    return {str(node): [str(name) for name in names] for node, names in nodes.items() if isinstance(names, list)}
