"""Bring the pieces of a run to a store: through this machine's memory, and never to its disk.

Nothing can be renamed there, so a step folder's manifest comes last. `.orz/copying` holds what is being brought: a
second call of the same replaces what a killed one left, and keeps the files whose digests are right.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from blake3 import blake3

from orz_ckpt.cluster.collect.outcome import Collection, Move
from orz_ckpt.cluster.collect.records import merged_manifest
from orz_ckpt.cluster.collect.tasks import Task, gathered, key_of, lacking, plan_tasks, told
from orz_ckpt.cluster.collect.transfer import ATTEMPTS
from orz_ckpt.cluster.fleet import Fleet, NodeError
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.verdict import NodeFinding, node_finding
from orz_ckpt.copy.checked import DiffersError
from orz_ckpt.copy.url import COPYING, checkpoint_around, put, there_digest
from orz_ckpt.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, PRIVATE_DIR, FileEntry, ManifestError, loads
from orz_ckpt.node.pieces import STEP
from orz_ckpt.node.scan import BUDGET_S
from orz_ckpt.remote import Remote
from orz_ckpt.watch import Progress, Silent
from orz_cli.errors import UsageError
from orz_cli.findings import Severity


def collect_to_url(
    fleet: Fleet,
    runs: Sequence[str],
    dest: Remote,
    *,
    dry_run: bool = False,
    budget_s: float = BUDGET_S,
    progress: Progress | None = None,
) -> Collection:
    """Locate `runs` on all nodes and bring what was found to the store `dest`.

    Args:
        fleet: the nodes.
        runs: paths, as the user or a configuration spells them; taken to be pieces of one run.
        dest: the run's folder there.
        dry_run: plan only.
        budget_s: how long a node may search.
        progress: told of bytes.

    Raises:
        UsageError: `dest` is a checkpoint, or lies in one.
        RemoteError: the store refuses.
    """
    begin = time.perf_counter()
    found = locate(fleet, runs, budget_s=budget_s)
    findings: list[NodeFinding] = list(found.findings)
    tasks = [] if found.everywhere else plan_tasks(fleet, found, None, findings)
    around = checkpoint_around(dest, itself=any(task.group.rel for task in tasks))
    if around is not None:
        raise UsageError(
            f"--to {dest.shown} is inside the checkpoint {around}, which would no longer verify",
            remedy="give the run's own folder, or one beside it",
        )
    copied = 0
    shown = progress or Silent()
    if not dry_run:
        shown.add_total(sum(move.file.size for task in tasks if not task.failed for move in task.checked.moves))
        for task in tasks:
            if not task.failed:
                copied += _Bringing(fleet, task, dest, findings, shown.advance).bring()
        findings += [told(task, dest.at(task.group.rel)) for task in tasks if not task.failed]
    return Collection(
        runs=runs,
        dest=dest.shown,
        dry_run=dry_run,
        gathered=[gathered(task) for task in tasks],
        findings=findings,
        copied_bytes=copied,
        seconds=time.perf_counter() - begin,
    )


class _Bringing:
    """One checkpoint on its way."""

    def __init__(
        self,
        fleet: Fleet,
        task: Task,
        dest: Remote,
        findings: list[NodeFinding],
        advance: Callable[[int], None],
    ) -> None:
        self._fleet, self._task, self._dest, self._findings, self._advance = fleet, task, dest, findings, advance
        self._there = dest.sizes(task.group.rel)
        self._mine = dest.text(self._key(COPYING), 64) == self._identity()

    def bring(self) -> int:
        """Write what is not there, then the manifest; return how many bytes were written."""
        task = self._task
        if MANIFEST_NAME in self._there and task.group.kind == STEP:
            self._compare_committed()
            return 0
        digests: dict[str, str] = {}
        done: list[Move] = []
        copied = 0
        self._dest.write(self._key(COPYING), [self._identity()])
        for move in task.checked.moves:
            try:
                digests[move.file.name], nbytes = self._bring_file(move)
            except (NodeError, DiffersError) as error:
                code = "collect_differs" if isinstance(error, DiffersError) else "node_failed"
                self._fail(code, error.message, error.remedy, move.origin.path, move.origin.node)
            else:
                copied += nbytes
                done.append(replace(move, there=not nbytes and bool(move.file.size)))
        if not task.failed:
            self._commit(digests)
        if not task.failed:
            task.checked.moves = done
            self._dest.remove(self._key(COPYING))
        return copied

    def _bring_file(self, move: Move) -> tuple[str, int]:
        """Return the digest of a file that is there now, and how many bytes were written."""
        file, key = move.file, key_of(self._task, move)
        size = self._task.checked.states[move.origin].size
        found = self._there.get(file.name)
        if found is not None:
            algo = file.entry.algo if file.entry is not None else "blake3"
            expected = file.entry.digest if file.entry is not None else self._digest_at(move)
            if found == size and there_digest(self._dest, key, algo) == expected:
                self._advance(size)
                return expected, 0
            if not self._mine:
                message = f"{self._dest.at(key)} is there already, and is not what {move.origin.node} has"
                remedy = "collect to another place; nothing there is ever replaced"
                self._fail("collect_conflict", message, remedy, self._dest.at(key), move.origin.node)
                return "", 0
        for attempt in range(ATTEMPTS):
            try:
                shown = f"{file.name} of {move.origin.node}"
                digest = put(self._dest, key, self._chunks(move), size, file.entry, shown=shown, advance=self._advance)
            except NodeError:
                if attempt + 1 == ATTEMPTS:
                    raise
            else:
                return digest, size
        raise AssertionError("the last attempt returned or raised")

    def _digest_at(self, move: Move) -> str:
        said = self._fleet.ask("digests", {move.origin.node: {"paths": [move.origin.path]}})[move.origin.node]
        if said.trouble is not None:
            raise NodeError(f"{move.origin.node}: {said.message}", remedy=said.remedy or "collect again")
        return str(said.value[move.origin.path])

    def _chunks(self, move: Move) -> Iterator[Any]:
        end = 0
        for chunk in self._fleet.chunks(move.origin.node, move.origin.path, 0):
            view = memoryview(chunk.data)
            if chunk.offset != end or blake3(view, max_threads=blake3.AUTO).hexdigest() != chunk.digest:
                raise NodeError(
                    f"{move.origin.node}: {move.origin.path}: bytes from {chunk.offset:,} on arrived damaged",
                    remedy="collect again; if it stays so, look at the network and the memory of both machines",
                )
            end += len(view)
            yield view

    def _commit(self, digests: dict[str, str]) -> None:
        """Write the manifest of a step folder, if all that its nodes recorded is there."""
        task, where = self._task, self._dest.at(self._task.group.rel)
        if task.group.kind != STEP:
            return
        lacks = lacking(task, where, self._findings)
        if lacks is not None:
            self._findings += lacks
            return
        extra = {
            file.name: FileEntry(size=file.size, digest=digests[file.name])
            for file in task.plan.files
            if file.entry is None and not file.name.startswith(f"{PRIVATE_DIR}/")
        }
        try:
            merged = merged_manifest(task.records, extra)
        except ManifestError as error:
            self._fail("manifest_invalid", str(error), "take an older step", where, "")
            return
        assert merged is not None  # noqa: S101  there are records, or it would lack something
        self._dest.write(self._key(MANIFEST_NAME), [merged[1].encode()])
        task.committed = True

    def _compare_committed(self) -> None:
        """Compare a committed step folder that is there with what the nodes recorded."""
        task, where = self._task, self._dest.at(self._task.group.rel)
        text = self._dest.text(self._key(MANIFEST_NAME), MAX_MANIFEST_BYTES) or b""
        try:
            files = loads(text).files
        except ManifestError:
            files = {}
        entries = task.records.entries
        same = {name: (entry.size, entry.digest) for name, entry in files.items() if name in entries}
        wanted = {name: (entry.size, entry.digest) for name, entry in entries.items()}
        extra = {file.name for file in task.plan.files if not file.name.startswith(f"{PRIVATE_DIR}/")}
        if not files or same != wanted or not extra <= files.keys():
            message = f"{where} is committed already, and its manifest is not that of all pieces together"
            remedy = "collect to another place; nothing there is ever replaced"
            self._fail("collect_conflict", message, remedy, where, "")
            return
        task.committed = True
        task.checked.moves = [replace(move, there=True) for move in task.checked.moves]

    def _identity(self) -> bytes:
        """Tell what is brought from anything else: names, sizes and recorded digests."""
        files = [
            (file.name, file.size, file.entry.digest if file.entry is not None else "")
            for file in self._task.plan.files
        ]
        return hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest().encode()

    def _key(self, name: str) -> str:
        return f"{self._task.group.rel}/{name}".lstrip("/")

    def _fail(self, code: str, message: str, remedy: str, path: str, node: str) -> None:
        self._task.failed = True
        entry = node_finding(code, message, remedy=remedy, path=path, node=node)
        assert entry.severity is Severity.ERROR  # noqa: S101  or the collection would pass
        self._findings.append(entry)
