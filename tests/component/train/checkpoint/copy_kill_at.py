"""Save steps with copies to a store, killed in the middle of a copy. Run by test_copies_kill.py.

Arguments: a run folder, the folder that stands in for the store `s3://bucket`, the step, how many of its writes to the
store come through before the kill; -1 kills nothing, `end` kills when the manifest is written and `.orz/copying` is to
be removed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from conftest import Ranks, make_config
from orz_train.checkpoint import RunCheckpoints, check_copies
from orz_train.testing import MemorySink


class Bucket(LocalFileSystem):
    """A store that keeps its files in a folder."""

    protocol = "s3"
    root_of_all = ""
    writes_left = -1
    ends = False
    """Whether the kill comes at the end of a copy."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        rest = path.removeprefix("s3://")
        return rest if rest.startswith("/") else f"{cls.root_of_all}/{rest}".rstrip("/")

    def __init__(self) -> None:
        super().__init__(auto_mkdir=True)

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        if "w" in mode:
            if Bucket.writes_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            Bucket.writes_left -= 1
        return super()._open(path, mode, **more)

    def rm_file(self, path: str) -> None:
        if Bucket.ends and path.endswith("/.orz/copying"):
            os.kill(os.getpid(), signal.SIGKILL)
        super().rm_file(path)


def main(run: Path, bucket: str, step: int, writes: str) -> None:
    """Save one step as a run does."""
    Bucket.root_of_all = bucket
    fsspec.register_implementation("s3", Bucket, clobber=True)
    config, sink, model = make_config(copy_to="s3://bucket/runs", keep=1), MemorySink(), Ranks()
    check_copies(config, run, sink)
    Bucket.ends = writes == "end"
    Bucket.writes_left = -1 if Bucket.ends else int(writes)
    model.value = float(step)
    with RunCheckpoints(run, {"policy": model}, config, sink) as saves:
        saves.save(step, skipped_in_a_row={})
    for event, at, _ in sink.events:
        print(event, at)  # noqa: T201  the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
