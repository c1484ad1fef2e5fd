"""What each node recorded of a save before the commit: `.orz/manifest-<node>.json` in a step folder.

Such a record is a manifest of that node's files alone. Whoever has it can tell what is missing from a disk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from orz_ckpt.manifest import PRIVATE_DIR, Manifest, ManifestError, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NODES_KEY: Final = "nodes"
"""Key of a manifest's `meta`: the names of all nodes that take part in the save."""
PATH_KEY: Final = "path"
"""Key of a record's `meta`: the absolute path of the step folder on the node that wrote it."""
_MAX_RECORDS: Final = 4096


def record_name(node: str) -> str:
    """Return where the record of a node's files lies in a step folder."""
    return f"{PRIVATE_DIR}/manifest-{re.sub(r'[^A-Za-z0-9._-]', '_', node) or 'node'}.json"


def node_records(folder: Path) -> Iterator[tuple[Path, Manifest | ManifestError]]:
    """Yield the records that nodes wrote to `.orz/` before the commit, by name; what cannot be read as an error."""
    private = folder / PRIVATE_DIR
    try:
        paths = sorted(private.glob("manifest-*.json"))
    except OSError:
        return
    for path in paths[:_MAX_RECORDS]:
        try:
            yield path, load(path)
        except ManifestError as error:
            yield path, error
        except OSError as error:
            yield path, ManifestError(f"{path}: {error.strerror or error}")


def listed_nodes(manifest: Manifest) -> list[str]:
    """Return the nodes that take part in the save, as a manifest or a record says; none where it does not say."""
    nodes = manifest.meta.get(NODES_KEY)
    return [str(node) for node in nodes] if isinstance(nodes, list) else []
