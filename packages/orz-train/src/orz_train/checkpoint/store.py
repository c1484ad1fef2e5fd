"""Writes a run's checkpoints: at once, or in the background while the next step is taken."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orz_ckpt.failing import reason
from orz_ckpt.inventory import CHECKPOINTS_DIR, list_checkpoints, step_folder
from orz_ckpt.manifest import FileEntry, Manifest
from orz_ckpt.storage import StagedCheckpoint, stage
from orz_train.checkpoint.commit import SAVING, Facts, commit_per_node, commit_shared, withdraw
from orz_train.checkpoint.copies import Copies
from orz_train.checkpoint.disks import TIMEOUT_S, Disks
from orz_train.checkpoint.failures import by_policy, end_writing, is_of_the_save
from orz_train.checkpoint.nodes import OneNode
from orz_train.checkpoint.retention import remove_old, sweep
from orz_train.checkpoint.state_names import STATE
from orz_train.config.checkpoint_size import expected_bytes
from orz_train.config.dump import config_sha256
from orz_train.config.schema import Config
from orz_train.errors import NotSharedError, OrzError
from orz_train.limits import NO_LIMIT, Limit
from orz_train.ports import MetricSink, Nodes, Saved

LEAVE_S = 15.0
"""How long a run that ends early has for all that it still does about checkpoints; its processes end after that, and
nothing of the run is left 30 s after its failure."""
LAST_COMMIT_S = 8.0
"""How much of it goes to the save in flight."""


@dataclass(kw_only=True, slots=True)
class _InFlight:
    """A checkpoint whose snapshots are being written."""

    step: int
    trainer: dict[str, Any]
    staged: StagedCheckpoint | None = None
    """None where an attempt has failed, and another one is to begin."""
    opened: ExitStack = field(default_factory=ExitStack)
    """Closes the staged folder."""


class RunCheckpoints:
    """Writes `checkpoints/step_NNNNNN/` in a run folder; its manifest comes last and is the commit.

    A context manager: entering removes what a killed run left in flight; leaving commits a checkpoint that is still
    being written in the background. A run that fails gives it up where that takes more than `LAST_COMMIT_S`, and waits
    for no copy; one that is interrupted gives it up at once. Neither needs more than about `LEAVE_S` for it, whatever
    hangs.

    Args:
        run_dir: the run folder, absolute.
        models: by role, `policy` and perhaps `critic`.
        config: hashed into every manifest; says where, how and how many.
        sink: is told of every checkpoint, once it is committed.
        nodes: those whose disks are written to, the driver's first; by default this machine.
        prompts_sha256: of the training prompts, so that a resume notices other ones.
        check: looks, while a copy is waited for, whether the models are well; raises if they aren't.
    """

    def __init__(
        self,
        run_dir: Path,
        models: Mapping[str, Saved],
        config: Config,
        sink: MetricSink,
        *,
        nodes: Nodes | None = None,
        prompts_sha256: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.run_dir = run_dir
        self.prompts_sha256 = prompts_sha256
        self.models = models
        self.config = config
        self.settings = config.checkpoint
        self.sink = sink
        self.nodes: Nodes = nodes or OneNode()
        self.disks = Disks(run_dir / CHECKPOINTS_DIR, self.nodes, self.settings, sink)
        self._size = 0
        """Bytes of one checkpoint, as far as known: of the newest, else an estimate."""
        self._in_flight: _InFlight | None = None
        self._copies = Copies(run_dir, self.settings, sink, check=check)
        self._check = check
        self._leaving = NO_LIMIT
        """What is left of `LEAVE_S`, once something has ended the run."""
        self._goes_on = False
        """Whether the run goes on if the save that is under way fails as saves do."""

    def __enter__(self) -> Self:
        committed = [one for one in list_checkpoints(self.run_dir) if one.manifest is not None]
        newest = [one.manifest for one in committed[-1:] if one.manifest is not None]
        self._size = newest[0].total_bytes if newest else expected_bytes(self.config)
        sweep(self.run_dir, self.settings, self.nodes, self.sink)
        self._copies.add(one.step for one in committed)  # those whose copies are whole take no time
        self._copies.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._leave_early(error)
            return
        try:
            self._finish_begun()
            self._raise(self._copies.wait())
            self._copies.start()
            self._raise(self._copies.wait())
            self._remove_old()
        except BaseException as last:
            self._leave_early(last)
            raise

    def _leave_early(self, error: BaseException) -> None:
        """Do what can soon be done about the save in flight and about copies.

        Ranks and engines hold their GPUs until this returns, and the next start goes on with a copy: none is waited
        for. What ends the run is told before all that fails here, also before Ctrl-C, which only ends the waiting.
        """
        self._begin_leaving()
        self._copies.close()
        with suppress(Exception, KeyboardInterrupt):
            if self._in_flight is not None:
                self._end_early(self._in_flight, error)
        with suppress(Exception, KeyboardInterrupt):
            self._copies.give_up(self._leaving)

    def _begin_leaving(self) -> None:
        """Let the time run that the end of the run may take; whatever ends it first begins it."""
        if self._leaving is NO_LIMIT:
            self._leaving = Limit(LEAVE_S)

    def save(self, step: int, *, skipped_in_a_row: Mapping[str, int], watches: Mapping[str, Any] | None = None) -> None:
        """Save the weights after `step` steps, and what the trainer keeps between steps.

        With `checkpoint.asynchronous` this only takes the snapshots and begins to write them; `settle` commits.

        Raises:
            CkptError: the disk is full or refuses; what was written is removed, older checkpoints are untouched.
            CheckpointError: a look at the disks found that the save would fail; or an earlier checkpoint couldn't be
                copied, and this one is saved, or begun, all the same.
        """
        self._finish_begun()
        failed = self._copies.wait()
        self._remove_old()
        trainer = {
            "v": 1,
            "step": step,
            "skipped_in_a_row": dict(skipped_in_a_row),
            "watches": dict(watches or {}),
            "prompts_sha256": self.prompts_sha256,
        }
        begin = self._begin if self.settings.asynchronous else self._save
        try:
            begun = self._by_policy(lambda: begin(step, trainer), step)
        except BaseException:
            self._warn(failed)
            raise
        if not begun:
            self._drop_snapshots()
        self._raise(failed)
        self._copies.start()  # of this step, or of the one that was in flight: made while the next steps are taken

    def settle(self) -> None:
        """Wait for what is being written in the background, and commit it; at once where nothing is.

        Of copies this only hears what has become of them.

        Raises:
            CkptError: as `save`.
            CheckpointError: as `save`; or a checkpoint couldn't be copied.
        """
        self._finish_begun()
        self._raise(self._copies.look())
        self._copies.start()

    def _finish_begun(self) -> None:
        """Commit what is being written in the background."""
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            self._by_policy(lambda: self._finish(in_flight), in_flight.step)
            self._drop_snapshots()  # committed, or given up

    def _by_policy(self, save: Callable[[], None], step: int) -> bool:
        """Save as `checkpoint.on_failure` says; return whether it was saved."""

        def attempt(tries_left: int) -> None:
            self._goes_on = tries_left > 0 or self.settings.on_failure == "warn"
            save()

        try:
            return by_policy(attempt, self.settings, self.sink, step=step)
        finally:
            self._goes_on = False

    def _drop_snapshots(self) -> None:
        """Free the memory of what is written no more."""
        if self.settings.asynchronous:
            for model in self.models.values():
                model.drop_snapshot()

    def _save(self, step: int, trainer: dict[str, Any]) -> None:
        """Write and commit."""
        started = time.perf_counter()
        self.disks.look(step, needed_bytes=self._size)
        with self._staged(step, trainer) as staged:
            known: dict[str, FileEntry] = {}
            for role, model in self.models.items():
                known |= model.save(staged.path / role)
                known |= model.save_state(staged.path / STATE)
            manifest = self._commit(staged, step, known=known)
        self._committed(step, manifest, seconds=time.perf_counter() - started)

    def _begin(self, step: int, trainer: dict[str, Any]) -> None:
        """Take the snapshots and begin to write them."""
        self.disks.look(step, needed_bytes=self._size)
        in_flight = _InFlight(step=step, trainer=trainer)
        for model in self.models.values():
            model.snapshot()
        self._write(in_flight)
        self._in_flight = in_flight

    def _write(self, in_flight: _InFlight) -> None:
        """Begin to write the snapshots to a new folder."""
        with ExitStack() as stack:
            staged = stack.enter_context(self._staged(in_flight.step, in_flight.trainer))
            for role, model in self.models.items():
                model.write_snapshot(staged.path / role, staged.path / STATE)
            in_flight.staged = staged
            in_flight.opened = stack.pop_all()

    def _finish(self, in_flight: _InFlight, limit: Limit = NO_LIMIT) -> None:
        """Wait for the snapshots' files and commit them; the snapshots of a failed attempt are written again."""
        started = time.perf_counter()
        if in_flight.staged is None:
            self._write(in_flight)
        staged, in_flight.staged = in_flight.staged, None
        assert staged is not None  # noqa: S101  # `_write` has set it
        with in_flight.opened:
            known: dict[str, FileEntry] = {}
            for model in self.models.values():  # each is heard, also when the one before it has used all of the time
                known |= model.finish_snapshot(limit.left())
            manifest = self._commit(staged, in_flight.step, known=known, limit=limit)
        self._committed(in_flight.step, manifest, seconds=time.perf_counter() - started)

    def _end_early(self, in_flight: _InFlight, error: BaseException) -> None:
        """Commit what is being written if the run failed by itself and it is soon there; else give it up."""
        self._in_flight = None
        if not isinstance(error, Exception):
            with suppress(type(error)), in_flight.opened:
                raise error  # through the contexts, which remove what was written
            self.sink.event("warning", step=in_flight.step, message=f"the save of step {in_flight.step} was given up")
            return
        try:
            self._finish(in_flight, Limit(self._leaving.at_most(LAST_COMMIT_S)))
        except Exception as second:  # noqa: BLE001  the error that ends the run is on its way, whatever this one is
            reason = str(second).partition("\n")[0]
            waited = f"a run that fails waits {LAST_COMMIT_S:g} s for it"
            message = f"step {in_flight.step} was not saved ({waited}): {reason}"
            self.sink.event("warning", step=in_flight.step, message=message)

    def _raise(self, failed: Exception | None) -> None:
        if failed is not None:
            raise failed

    def _warn(self, failed: Exception | None) -> None:
        """Tell of a copy that failed while another error ends the run."""
        if failed is not None:
            self.sink.event("warning", message=str(failed).partition("\n")[0])

    @contextmanager
    def _staged(self, step: int, trainer: Mapping[str, Any]) -> Iterator[StagedCheckpoint]:
        """Open the folder of a save on every node, with the trainer's own state in it.

        A failure leaves nothing on any: all ranks end before what they wrote is removed.
        """
        with stage(step_folder(self.run_dir, step)) as staged:
            staged.needed_bytes = self._size
            parts = [*self.models, STATE]
            try:
                asked = {name: {"staged": staged.path, "parts": parts} for name in self.nodes.names}
                self.nodes.run(f"{SAVING}:begin", asked, timeout_s=TIMEOUT_S)
                (staged.path / STATE / "trainer.json").write_text(json.dumps(trainer) + "\n", encoding="utf-8")
                yield staged
            except NotSharedError:
                raise  # what is elsewhere is kept
            except BaseException as error:
                goes_on = self._goes_on and is_of_the_save(error, staged.final.parent)
                if not goes_on:
                    self._begin_leaving()
                check, limit = self._check if goes_on else None, self._leaving
                try:
                    end_writing(self.models.values(), self.sink, step=step, limit=limit, check=check)
                finally:  # Ctrl-C ends the waiting alone
                    withdraw(staged, self.nodes, limit=limit)
                raise

    def _commit(
        self,
        staged: StagedCheckpoint,
        step: int,
        *,
        known: Mapping[str, FileEntry],
        limit: Limit = NO_LIMIT,
    ) -> Manifest:
        roles, sha256 = tuple(self.models), config_sha256(self.config)
        facts = Facts(step=step, roles=roles, config_sha256=sha256, name=self.config.name)
        per_node = self.settings.storage == "per_node" and len(self.nodes.names) > 1
        commit = commit_per_node if per_node else commit_shared
        return commit(staged, self.nodes, facts, known=known, limit=limit)

    def _committed(self, step: int, manifest: Manifest, *, seconds: float) -> None:
        """Say that a checkpoint is there, and remove those that are no longer kept."""
        self._size = manifest.total_bytes
        path = step_folder(self.run_dir, step)
        self.sink.event("checkpoint_saved", step=step, path=path, bytes=self._size, seconds=seconds)
        self._copies.add([step])
        if self._leaving is NO_LIMIT:  # else another node's disk could hold the run up; the next start's saves do it
            self._remove_old()

    def _remove_old(self) -> None:
        """Remove the checkpoints that are no longer kept and wait for no copy; warn where the disk refuses."""
        # those that wait for their copies go when these are whole
        try:
            remove_old(self.run_dir, self.settings, self.nodes, self.sink, waiting=self._copies.waiting)
        except OSError as error:
            if isinstance(error, OrzError):  # as of a log that can't be written
                raise
            message = f"checkpoints that are no longer kept are still there: {reason(error, self.run_dir)}"
            self.sink.event("warning", message=message, remedy="the next save removes them, if the disk is in order")
