"""Before a run depends on a store for its copies: can it be written, and whose checkpoints are there already?"""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

from orz_ckpt.copy.place import steps_there, try_place
from orz_ckpt.inventory import list_checkpoints, step_folder
from orz_ckpt.urls import redacted
from orz_train.checkpoint.copy_places import copies_apart, copies_url, copy_url
from orz_train.checkpoint.failures import message_and_remedy
from orz_train.config.schema import Config
from orz_train.config.yamlfile import read_tree
from orz_train.errors import ConfigError, OrzError, RunFolderError, StorageCheckError, UsageError
from orz_train.ports import MetricSink


def check_copies(config: Config, run_dir: Path, sink: MetricSink) -> None:
    """Write a small file to where the copies of this run go, read it back, and look at what is there.

    `checkpoint.preflight` says what a store that can't be used means.

    Args:
        config: of the run.
        run_dir: the run folder, absolute.
        sink: is told of a failure that doesn't end the run.

    Raises:
        ConfigError: `checkpoint.copy_to` is no URL that can be written here, or not apart from the run
            folder; this is asked even with `off`.
        StorageCheckError: the store can't be reached or refuses.
        RunFolderError: newer checkpoints than this run folder's are there; names the command that brings the newest.
    """
    copy_to, mode = config.checkpoint.copy_to, config.checkpoint.preflight
    if copy_to is None:
        return
    url = copies_apart(copy_to, run_dir)
    if mode == "off":
        return
    try:
        try_place(url)
        there = steps_there(url)
    except UsageError as error:
        raise ConfigError(f"checkpoint.copy_to: {error.message}", remedy=error.remedy) from error
    except (OrzError, OSError) as error:
        message, remedy = message_and_remedy(error)
        failure = StorageCheckError(
            f"{redacted(url)} can't take copies of checkpoints, as checkpoint.copy_to says: {message}",
            remedy="; or ".join(filter(None, (remedy, "go on regardless with checkpoint.preflight=warn"))),
        )
        if mode == "error":
            raise failure from error
        sink.event("warning", message=failure.message, remedy=failure.remedy)
        return
    here = [checkpoint.step for checkpoint in list_checkpoints(run_dir) if checkpoint.committed]
    if there and there[-1] > max(here, default=-1):
        raise RunFolderError(
            f"{redacted(url)} holds the checkpoint of step {there[-1]}, and the newest in {run_dir} is"
            f" {f'that of step {here[-1]}' if here else 'none'}",
            remedy=f"to go on from it: {_bringing(copy_to, run_dir, there[-1])}; or begin another run: give another"
            " --run-dir",
        )


def where_copies_are(run_dir: Path) -> str:
    """Say how to bring the newest copy of a run that has no checkpoint here; empty where there is none.

    Args:
        run_dir: a run folder; its `config.yaml` says where copies went.
    """
    with suppress(OrzError, OSError):  # this only adds to what is wrong already
        section = read_tree(run_dir / "config.yaml").data.get("checkpoint")
        copy_to = section.get("copy_to") if isinstance(section, dict) else None
        there = steps_there(copies_url(copy_to, run_dir)) if isinstance(copy_to, str) else []
        if isinstance(copy_to, str) and there:
            return f"its copies are in a store, bring the newest: {_bringing(copy_to, run_dir, there[-1])}"
    return ""


def _bringing(copy_to: str, run_dir: Path, step: int) -> str:
    """Return the command that copies a checkpoint back."""
    final = step_folder(run_dir, step)
    source = copy_url(copy_to, run_dir, step)  # as it is, to be typed: the configuration lets no secret in
    return f"orz ckpt copy {shlex.quote(source)} {shlex.quote(str(final))}, then start it again"
