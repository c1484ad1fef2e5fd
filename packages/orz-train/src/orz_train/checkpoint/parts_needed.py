"""Does each node have on its own disk what its ranks need to go on?"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.records import holders
from orz_train.errors import CheckpointError
from orz_train.ports import Nodes

DAMAGED = "orz_ckpt.node.saving:damaged"


def require_parts(checkpoint: Path, needed: Mapping[str, AbstractSet[str]], nodes: Nodes) -> None:
    """Read every byte that a node's ranks will read, on that node, and compare it with the manifest.

    The driver's own disk has been looked at before; where all nodes share it, nothing is asked.

    Args:
        checkpoint: a step folder whose manifest is on the driver's disk.
        needed: by node, paths below it; a folder ends with `/`.
        nodes: where the ranks are.

    Raises:
        CheckpointError: a part is missing or damaged on its node; names both, and who has it.
    """
    manifest = load(checkpoint / MANIFEST_NAME)
    held = holders(manifest)
    if not held:
        return
    files = {
        node: {
            name: entry
            for name, entry in manifest.files.items()
            if any(name == part or (part.endswith("/") and name.startswith(part)) for part in parts)
        }
        for node, parts in needed.items()
    }
    bad: dict[str, list[str]] = nodes.run(
        DAMAGED, {node: {"folder": checkpoint, "files": entries} for node, entries in files.items()}
    )
    lines = [
        f"  {node} lacks {name}, or has other bytes;"
        f" it was saved on {' and '.join(other for other, names in held.items() if name in names)}"
        for node, names in bad.items()
        for name in names
    ]
    if lines:
        run = checkpoint.parent.parent
        raise CheckpointError(
            f"{checkpoint}: each node kept its own part, and these are not where they are needed:\n" + "\n".join(lines),
            remedy=f"bring all parts together, orz ckpt collect {run} --to FOLDER {nodes.flags}, and put FOLDER in the"
            " place of the run folder on every node, or on a disk that all share",
        )
