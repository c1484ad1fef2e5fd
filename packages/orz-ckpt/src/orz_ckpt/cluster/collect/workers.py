"""Fetch many files, from several nodes at once; stop at once when asked to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

from orz_ckpt.cluster.collect.journal import CollectJournal
from orz_ckpt.cluster.collect.outcome import Move
from orz_ckpt.cluster.collect.transfer import DiffersError, fetch
from orz_ckpt.cluster.fleet import Fleet, NodeError
from orz_ckpt.cluster.verdict import NodeFinding, node_finding
from orz_ckpt.node.files import FileState
from orz_ckpt.watch import Progress

MAX_NODES: Final = 8
"""Nodes that send at once: the network of this machine is the limit."""

Wanted = tuple[str, Move, FileState]
"""Name below the staging folder, what to fetch, and its state there."""


class _StoppedError(Exception):
    """Another thread failed or the user interrupted; nobody waits for this file."""


def fetch_all(
    fleet: Fleet, wanted: Sequence[Wanted], staging: Path, *, journal: CollectJournal, progress: Progress
) -> dict[str, NodeFinding]:
    """Bring all files to `staging`; return by name what could not be brought.

    Raises:
        StorageFullError: there is no room here.
        OSError: this machine's disk refuses otherwise.
    """
    by_node: dict[str, list[Wanted]] = {}
    for one in wanted:
        by_node.setdefault(one[1].origin.node, []).append(one)
    team = _Team(fleet, staging, journal, progress)
    with ThreadPoolExecutor(max_workers=min(len(by_node), MAX_NODES) or 1) as pool:
        futures = [pool.submit(team.bring, mine) for mine in by_node.values()]
        try:
            wait(futures)
        finally:
            team.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, _StoppedError)):
        raise error
    return team.troubles


class _Team:
    """What the threads share."""

    def __init__(self, fleet: Fleet, staging: Path, journal: CollectJournal, progress: Progress) -> None:
        self.stop = threading.Event()
        self.troubles: dict[str, NodeFinding] = {}
        self._fleet, self._staging, self._journal, self._progress = fleet, staging, journal, progress

    def bring(self, mine: Sequence[Wanted]) -> None:
        """Fetch the files of one node, one after the other."""
        for name, move, state in mine:
            try:
                fetch(
                    self._fleet,
                    move.file,
                    move.origin,
                    state,
                    self._staging / name,
                    key=name,
                    journal=self._journal,
                    advance=self._advance,
                )
            except (NodeError, DiffersError) as error:
                code = "collect_differs" if isinstance(error, DiffersError) else "node_failed"
                origin = move.origin
                self.troubles[name] = node_finding(
                    code, error.message, remedy=error.remedy, path=origin.path, node=origin.node
                )
            except BaseException:
                self.stop.set()
                raise

    def _advance(self, nbytes: int) -> None:
        if self.stop.is_set():
            raise _StoppedError
        self._progress.advance(nbytes)
