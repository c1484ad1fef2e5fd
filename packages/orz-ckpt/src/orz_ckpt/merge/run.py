"""Merge a checkpoint of any format into a Hugging Face folder."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from orz_ckpt import __version__
from orz_ckpt.checks.elements import check_elements
from orz_ckpt.disk.durable import make_folders
from orz_ckpt.disk.folder import free_bytes
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.space import try_room
from orz_ckpt.disk.stamp import changed, stamp
from orz_ckpt.disk_errors import blocked_way, check_name, no_inodes_left, refuse_link_to_nothing, refuse_mount_point
from orz_ckpt.entries import describe
from orz_ckpt.errors import CheckpointExistsError, CkptError, OverlapError, StorageError, StorageFullError, is_full
from orz_ckpt.findings import CkptFinding, conclude, finding
from orz_ckpt.layouts import is_sharded
from orz_ckpt.manifest import PRIVATE_DIR, Manifest
from orz_ckpt.merge.config import untied
from orz_ckpt.merge.copy import budget, copy
from orz_ckpt.merge.fingerprint import Stamps, fingerprint
from orz_ckpt.merge.hf_output import Beside, find_beside, write_beside
from orz_ckpt.merge.journal import Journal
from orz_ckpt.merge.plan import Plan, make_plan
from orz_ckpt.merge.publish import earlier, publish
from orz_ckpt.merge.result import DEFAULT_JOBS, Merged, Options
from orz_ckpt.merge.source_check import SourceCheck
from orz_ckpt.merge.written_numbers import WrittenNumbers
from orz_ckpt.report.words import count
from orz_ckpt.steps import new_attempt
from orz_ckpt.subject import checkpoint_around
from orz_ckpt.tensors.coverage import check_coverage
from orz_ckpt.tensors.gather import ChangedError
from orz_ckpt.unfinished import merging, note_begun
from orz_ckpt.watch import Silent
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.disk.stamp import Stamp
    from orz_ckpt.manifest import FileEntry
    from orz_ckpt.tensors.source import Source
    from orz_ckpt.watch import Progress

__all__ = ["DEFAULT_JOBS", "Merged", "Options", "merge"]

_ROOM_FOR_REST: Final = 64 * 1024 * 1024
"""Bytes kept for manifest and journal, beyond what is known to be written."""


def merge(source: Source, out: Path, options: Options | None = None, *, progress: Progress | None = None) -> Merged:
    """Write the tensors of `source` to `out` as a Hugging Face folder with a manifest.

    Memory is bounded by `options.max_memory_bytes`, whatever the model. `out` appears at once and whole. A merge that
    was killed leaves `OUT.tmp-merge`; the same merge goes on from there, file by file.

    Args:
        source: from `sources.open_source`.
        out: the folder to make.
        options: dtype, shard size, configuration, threads, memory.
        progress: told of each chunk that was written.

    Returns:
        What was written. With an error among the findings nothing was.

    Raises:
        ChangedError: something changed the source while it was read.
        CheckpointExistsError: `out` holds something else.
        OverlapError: source and output lie in each other, or the output in another checkpoint.
        CkptError: another process merges there.
        UnwritableError: there can be no such folder.
        StorageFullError: the disk is too small, or became full; finished files are kept for the next run.
        StorageError: the disk refuses.
        UsageError: `options.config` is no model folder; or `out` is a mount point, or a link to nothing.
    """
    options, begin = options or Options(), time.perf_counter()
    out = out.absolute()
    check_name(out)
    refuse_link_to_nothing(out)
    _refuse_overlap(source, out)
    with Stamps(source.tensors.values()) as stamps:
        findings = [*source.findings, *check_coverage(source)]
        if not is_sharded(source):
            findings += check_elements(source.path, source.tensors.values())
        if not source.tensors and conclude(findings) is Status.OK:
            findings.append(finding("no_weights", "it holds no tensor", path=source.path))
        if conclude(findings) is not Status.OK:
            return Merged(out=out, written=False, findings=tuple(findings), source=source)
        plan = make_plan(source, dtype=options.dtype, max_shard_bytes=options.max_shard_bytes)
        beside = find_beside(source, plan, options.config, options.settings)
        findings += beside.findings
        if conclude(findings) is not Status.OK:  # what config.json contradicts no loader takes
            return Merged(out=out, written=False, findings=tuple(findings), source=source)
        weights, copied = stamps.all(), {path: stamp(path) for path in beside.copied}
        digest = fingerprint(plan, source, [*weights.values()], beside.config, [*copied.values()])
    try:
        kept, was_there = 0, earlier(out, digest) is not None
    except CheckpointExistsError:
        refuse_mount_point(out, "model")  # whatever is in it is not the reason
        raise
    if not was_there:
        refuse_mount_point(out, "model")
        check = SourceCheck(plan, beside)
        findings += check.found
        if conclude(findings) is not Status.OK:
            return Merged(out=out, written=False, findings=tuple(findings), source=source)
        run = _Merge(source, out, plan, beside, check, {**weights, **copied}, options, digest, progress or Silent())
        kept = run.run()
        findings += run.findings
        if conclude(findings) is not Status.OK:  # what was read is not what was saved
            return Merged(out=out, written=False, findings=tuple(findings), source=source)
    return Merged(
        out=out,
        written=True,
        findings=tuple(findings),
        source=source,
        files=len(plan.files),
        bytes=plan.size,
        tensors=len(plan.tensors),
        parameters=sum(tensor.source.numel for tensor in plan.tensors),
        dtypes=tuple(sorted({tensor.dtype for tensor in plan.tensors})),
        kept=kept,
        was_there=was_there,
        seconds=time.perf_counter() - begin,
    )


class _Merge:
    """One merge that writes."""

    def __init__(
        self,
        source: Source,
        out: Path,
        plan: Plan,
        beside: Beside,
        check: SourceCheck,
        stamps: Mapping[Path, Stamp],
        options: Options,
        fingerprint: str,
        progress: Progress,
    ) -> None:
        self._source, self._out, self._plan, self._beside = source, out, plan, beside
        self._check, self._stamps, self._options = check, stamps, options
        self._fingerprint, self._progress = fingerprint, progress
        self._folder = merging(out)
        self._no_inodes = no_inodes_left(out)
        self.findings: list[CkptFinding] = []

    def run(self) -> int:
        """Write, compare and publish; return how many files of an earlier run were kept."""
        try:
            make_folders(self._out.parent)
            with Journal(self._folder, self._plan, self._fingerprint) as journal:
                note_begun(
                    self._folder / PRIVATE_DIR,
                    str(self._source.path.absolute()),
                    kind=self._options.command[0],
                    options=self._options.words,
                )
                try:
                    return self._write(journal)
                except BaseException:
                    self._no_inodes = no_inodes_left(self._out)  # while none is given back
                    self._tidy(journal)
                    raise
        except CkptError:
            raise
        except OSError as error:
            raise self._storage_error(error) from error

    def _write(self, journal: Journal) -> int:
        check, numbers = self._check, WrittenNumbers(self._plan, self._source.path)
        for name, entry in list(journal.finished.items()):
            if not numbers.look_again(self._folder / name, entry.digest):
                del journal.finished[name]
        kept = len(journal.finished)
        todo = [file for file in self._plan.files if file.name not in journal.finished]
        self._refuse_small_disk(sum(file.size for file in todo))
        self._progress.add_total(sum(file.data_bytes for file in todo))
        limits = budget(jobs=self._options.jobs, max_memory_bytes=self._options.max_memory_bytes)
        with check.files as sources:
            advance = self._progress.advance
            copy(self._folder, todo, limits, sources=sources, look=numbers.look, finished=journal.add, progress=advance)
            differing = check.differing(journal.finished)
            found = [*differing, *numbers.findings()]
        self.findings += found
        sound = conclude(found) is Status.OK
        if sound:
            write_beside(self._folder, self._beside, self._plan, self._config(journal.finished))
        self._refuse_changed()
        if sound:
            publish(self._folder, self._out, self._manifest(journal.finished))
        else:
            shutil.rmtree(self._folder, ignore_errors=True)  # nothing of it is to be gone on with
        return kept

    def _refuse_changed(self) -> None:
        """Refuse to publish what was read while the source was saved over: parts of two saves may be in it."""
        differing = changed(self._stamps)
        if differing:
            shutil.rmtree(self._folder, ignore_errors=True)  # nothing of it is to be gone on with
            more = f" and {count(len(differing) - 1, 'other file')}" if len(differing) > 1 else ""
            raise ChangedError(
                f"{differing[0]}{more} changed while the checkpoint was read, so parts of two saves may have been read;"
                " nothing was written",
                remedy="wait until nobody writes there, then run the same command again",
            )

    def _config(self, files: dict[str, FileEntry]) -> dict[str, object] | None:
        if self._beside.config is None:
            return None
        config = dict(self._beside.config)
        digests = {name: entry.digest for file in files.values() for name, entry in (file.tensors or {}).items()}
        if untied(config, self._plan, digests):
            config["tie_word_embeddings"] = False
            message = "config.json ties head and embedding, and the checkpoint holds both, with other numbers: untied"
            self.findings.append(finding("tie_differs", message, path=self._out))
        return config

    def _manifest(self, files: dict[str, FileEntry]) -> Manifest:
        source = self._source
        return Manifest(
            step=source.step or 0,
            attempt=new_attempt(),
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            writer=f"orz-ckpt {__version__}",
            files=describe(self._folder, files),
            meta={
                "merge": self._fingerprint,
                "source": {
                    "path": str(source.path),
                    "format": source.format,
                    "writer": source.writer,
                    "step": source.step,
                    "world_size": source.world_size,
                    **({"tag": source.facts["tag"]} if source.facts.get("tag") else {}),
                },
            },
        )

    def _refuse_small_disk(self, nbytes: int) -> None:
        beside = sum(path.stat().st_size for path in self._beside.copied)
        needed = nbytes + beside + min(_ROOM_FOR_REST, nbytes // 100 + 1024 * 1024)
        room = try_room(self._folder, needed)
        if room.fits is False:
            reason = room.error or "not enough is free"
            raise StorageFullError(
                f"{self._out} was not written: it needs {needed:,} bytes, {room.free or 0:,} are free: {reason}",
                remedy=f"{no_inodes_left(self._out) or 'free some space'}, raise the quota, or name another disk",
                path=str(self._out),
                needed_bytes=needed,
                free_bytes=room.free,
            )

    def _tidy(self, journal: Journal) -> None:
        """Keep what is finished for the next run; give the rest of the space back."""
        if not self._folder.is_dir():
            return  # it was published, or never made
        for entry in self._folder.iterdir():
            if entry.is_file() and entry.name not in journal.finished:
                entry.unlink(missing_ok=True)
        if not journal.finished:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _storage_error(self, error: OSError) -> StorageError:
        needed, free = self._plan.size, free_bytes(self._out.parent)
        full = is_full(error)
        kind = StorageFullError if full else StorageError
        kept = f"; what is finished stays in {self._folder}" if self._folder.is_dir() else ""
        reason = error.strerror or str(error)
        place = f" ({error.filename})" if error.filename else ""
        make_room = self._no_inodes or "free some space"
        room = f". It needs {needed:,} bytes, {'an unknown number' if free is None else f'{free:,}'} are free"
        return kind(
            f"{self._out} was not written: {reason}{place}{room if full else ''}{kept}",
            remedy=f"{make_room}, then run the same command again: it goes on where it stopped"
            if full
            else blocked_way(error, self._out)
            or f"check that this user may write to {self._out.parent}, and that the disk is in order",
            path=str(self._out),
            needed_bytes=needed,
            free_bytes=free,
        )


def _refuse_overlap(source: Source, out: Path) -> None:
    """Refuse an output inside the checkpoint or another one, and a checkpoint inside the output."""
    here, there = resolved(source.path), resolved(out)
    remedy = "choose a folder beside it"
    if here.is_dir() and there.is_relative_to(here):
        where = "the checkpoint itself" if there == here else f"inside the checkpoint {here}"
        raise OverlapError(f"OUT {out} is {where}; nothing was written", remedy=remedy)
    around = checkpoint_around(there)
    if around is not None:
        message = f"OUT {out} is inside the checkpoint {around}, which would no longer verify; nothing was written"
        raise OverlapError(message, remedy=remedy)
    if here.is_relative_to(there):
        raise OverlapError(f"the checkpoint {here} lies inside OUT {out}; nothing was written", remedy=remedy)
