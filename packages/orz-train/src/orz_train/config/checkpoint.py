"""Settings of what is saved, where, and what happens when that fails."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orz_train.config.base import Section

STORAGES = ("shared", "per_node")


class Checkpoint(Section):
    """When weights and state are saved."""

    every_steps: int = Field(default=50, gt=0)
    """Save after so many steps, and always after the last."""
    keep: int | None = Field(default=None, gt=0)
    """Keep only the newest so many; all by default."""
    storage: str = "shared"
    """`shared`: one file system under the run folder's path on all nodes. `per_node`: a disk for each under that path;
    each node keeps the weights and its own ranks' state, the driver's node the manifest."""
    copy_to: str | None = None
    """A URL that fsspec writes, such as `s3://bucket/runs` or `file:///mnt/archive`. Every committed checkpoint is
    copied to `COPY_TO/<name of the run folder>/checkpoints/step_NNNNNN` while training goes on; the next save waits for
    it, a run that fails doesn't. Credentials belong in the environment, where the store's library looks for them, and
    never in the URL."""
    preflight: Literal["error", "warn", "off"] = "error"
    """Before models load, and briefly before each save: is the folder what `storage` says, writable, with room? `error`
    stops where it isn't, `warn` says so and goes on, `off` doesn't ask. The same for a small file in `copy_to`."""
    asynchronous: bool = False
    """Copy weights and state to host memory, write them while training goes on, and commit after the next step."""
    on_failure: Literal["raise", "warn", "retry"] = "raise"
    """Where a save or its copy fails: stop the run, go on without it, or try again first. Older ones stay."""
    retries: int = Field(default=3, gt=0, le=100)
    """How often `on_failure: retry` tries again, after 1, 2, 4, ... seconds, a minute at most."""
