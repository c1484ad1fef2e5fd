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

from orz_ckpt.inventory import CHECKPOINTS_DIR, list_checkpoints, step_folder
from orz_ckpt.manifest import FileEntry, Manifest
from orz_ckpt.storage import StagedCheckpoint, stage
from orz_train.checkpoint.commit import SAVING, Facts, commit_per_node, commit_shared, withdraw
from orz_train.checkpoint.copies import Copies
from orz_train.checkpoint.disks import TIMEOUT_S, Disks
from orz_train.checkpoint.failures import by_policy, end_writing, is_of_the_save
from orz_train.checkpoint.limits import Limit
from orz_train.checkpoint.nodes import OneNode
from orz_train.checkpoint.state_names import STATE
from orz_train.config.checkpoint_size import expected_bytes
from orz_train.config.dump import config_sha256
from orz_train.config.schema import Config
from orz_train.errors import NotSharedError, OrzError
from orz_train.ports import MetricSink, Nodes, Saved

LAST_COMMIT_S = 10.0
"""How long a run that fails waits for the save in flight: nothing of the run is left 30 s after its failure."""


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
    for no copy; one that is interrupted gives it up at once.

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
        self._goes_on = False
        """Whether the run goes on if the save that is under way fails as saves do."""

    def __enter__(self) -> Self:
        committed = [one for one in list_checkpoints(self.run_dir) if one.manifest is not None]
        newest = [one.manifest for one in committed[-1:] if one.manifest is not None]
        self._size = newest[0].total_bytes if newest else expected_bytes(self.config)
        own = self.nodes.names[:1] if self.settings.storage == "shared" else self.nodes.names
        swept = self.nodes.run(f"{SAVING}:sweep", {name: {"checkpoints": self.disks.folder} for name in own})
        for node, names in swept.items():
            for name in names:
                self.sink.event("unfinished_save_removed", path=self.disks.folder / name, node=node)
        self._copies.add(one.step for one in committed)  # those whose copies are whole take no time
        self._copies.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._finish_begun()
            self._raise(self._copies.wait())
            self._copies.start()
            self._raise(self._copies.wait())
            self._remove_old()
            return
        # Ranks and engines hold their GPUs until this returns, and the next start goes on with a copy: none is waited
        # for. What ends the run is told before Ctrl-C is, which only ends the waiting here.
        self._copies.close()
        with suppress(KeyboardInterrupt):
            if self._in_flight is not None:
                self._end_early(self._in_flight, error)
        with suppress(KeyboardInterrupt):
            self._copies.give_up()

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
            for role, model in self.models.items():
                model.save(staged.path / role)
                model.save_state(staged.path / STATE)
            manifest = self._commit(staged, step)
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

    def _finish(self, in_flight: _InFlight, *, timeout_s: float | None = None) -> None:
        """Wait for the snapshots' files and commit them; the snapshots of a failed attempt are written again."""
        limit = Limit(timeout_s)
        started = time.perf_counter()
        if in_flight.staged is None:
            self._write(in_flight)
        staged, in_flight.staged = in_flight.staged, None
        assert staged is not None  # noqa: S101  # `_write` has set it
        with in_flight.opened:
            known: dict[str, FileEntry] = {}
            for model in self.models.values():  # each is heard, also when the one before it has used all of the time
                known |= model.finish_snapshot(limit.left())
            manifest = self._commit(staged, in_flight.step, known=known)
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
            self._finish(in_flight, timeout_s=LAST_COMMIT_S)
        except (OrzError, OSError) as second:  # the error that ends the run is on its way
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
                check = self._check if goes_on else None
                try:
                    end_writing(self.models.values(), self.sink, step=step, check=check)
                finally:  # Ctrl-C ends the waiting alone
                    withdraw(staged, self.nodes)
                raise

    def _commit(self, staged: StagedCheckpoint, step: int, *, known: Mapping[str, FileEntry] | None = None) -> Manifest:
        facts = Facts(
            step=step,
            roles=tuple(self.models),
            config_sha256=config_sha256(self.config),
            name=self.config.name,
        )
        if self.settings.storage == "per_node" and len(self.nodes.names) > 1:
            return commit_per_node(staged, self.nodes, facts, known=known)
        return commit_shared(staged, self.nodes, facts, known=known)

    def _committed(self, step: int, manifest: Manifest, *, seconds: float) -> None:
        """Say that a checkpoint is there, and remove those that are no longer kept."""
        self._size = manifest.total_bytes
        path = step_folder(self.run_dir, step)
        self.sink.event("checkpoint_saved", step=step, path=path, bytes=self._size, seconds=seconds)
        self._copies.add([step])
        self._remove_old()

    def _remove_old(self) -> None:
        """Remove the checkpoints that are no longer kept and wait for no copy."""
        if self.settings.keep is None:
            return
        committed = [checkpoint for checkpoint in list_checkpoints(self.run_dir) if checkpoint.committed]
        for checkpoint in committed[: -self.settings.keep]:
            if checkpoint.step in self._copies.waiting:
                continue  # it goes when its copy is whole
            holding = self.nodes.names[:1] if self.settings.storage == "shared" else self.nodes.names
            # the driver's own first: its manifest is the commit, and half a checkpoint must not look committed
            for name in holding:
                self.nodes.run(f"{SAVING}:forget", {name: {"final": checkpoint.path}})
            self.sink.event("checkpoint_removed", step=checkpoint.step, path=checkpoint.path)
