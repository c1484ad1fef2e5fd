"""Has every part of a checkpoint been written?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orz_train.checkpoint.state_names import STATE, in_state_folder, process_state, rank_state, ranks_among
from orz_train.errors import CheckpointError


def require_complete(names: Iterable[str], roles: Sequence[str], *, where: str) -> None:
    """Make sure that weights and state of each model are among the files, the state of every rank.

    Args:
        names: of all files, relative to the step folder.
        roles: of the models.
        where: for the message.

    Raises:
        CheckpointError: names what is missing.
    """
    files = set(names)
    missing = [part for role in roles for part in _missing(role, files)]
    if missing:
        raise CheckpointError(
            f"the save of {', '.join(roles)} to {where} is not whole, {', '.join(missing)} didn't arrive;"
            " nothing was committed",
            remedy="see logs/ of the ranks in the run folder, and `orz ckpt preflight` for the disks",
        )


def require_own_weights(of_nodes: Mapping[str, Iterable[str]], roles: Sequence[str]) -> None:
    """Make sure that each node with the state of a model's rank has the model's weights, too: ranks go on from there.

    Args:
        of_nodes: the files on each node's own disk, relative to the step folder.
        roles: of the models.

    Raises:
        CheckpointError: names the first node without, and the model.
    """
    for node, names in of_nodes.items():
        files = set(names)
        for role in roles:
            if _has_state(role, files) and role in _missing(role, files):
                raise CheckpointError(
                    f"node {node} saved the state of {role}, but not its weights, without which its ranks couldn't go"
                    " on; nothing was committed",
                    remedy="see logs/ of the ranks on that node, and `orz ckpt preflight` for its disk",
                )


def _missing(role: str, files: set[str]) -> list[str]:
    missing = [] if any(name.startswith(f"{role}/") and name.endswith(".safetensors") for name in files) else [role]
    states = in_state_folder(files)
    if process_state(role) in states:
        return missing
    ranks = ranks_among(states, role)
    if not ranks:
        return [*missing, f"{STATE}/{role}-*.pt"]
    total = ranks[-1].num_ranks
    wanted = [rank_state(role, rank=rank, num_ranks=total) for rank in range(total)]
    return missing + [f"{STATE}/{name}" for name in wanted if name not in states]


def _has_state(role: str, files: set[str]) -> bool:
    states = in_state_folder(files)
    return process_state(role) in states or bool(ranks_among(states, role))
