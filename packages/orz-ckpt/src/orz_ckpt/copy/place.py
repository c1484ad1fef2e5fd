"""A place for copies, before anything depends on it: can it be written and read, and what is there already?"""

from __future__ import annotations

import secrets
from contextlib import suppress

from orz_ckpt.disk.durable import make_folders, write_synced
from orz_ckpt.errors import CkptError
from orz_ckpt.inventory import CHECKPOINTS_DIR, list_checkpoints
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.remote import Remote
from orz_ckpt.steps import our_step
from orz_ckpt.urls import local_path, redacted


def try_place(dest: str) -> None:
    """Write a small file to the folder `dest`, read it back and remove it.

    Args:
        dest: a path, or a URL that fsspec writes.

    Raises:
        UsageError: it is no URL that can be written here.
        CkptError: the store can't be reached or refuses, or gives back other bytes than it got.
        OSError: the disk refuses.
    """
    nonce = secrets.token_hex(16)
    name = f".orz-preflight-{nonce[:8]}"
    path = local_path(dest)
    if path is None:
        remote = Remote(dest, write=True)
        remote.write(name, [nonce.encode()])
        found = remote.text(name, len(nonce))
        with suppress(CkptError):  # who may write and not remove can have copies all the same
            remote.remove(name)
    else:
        make_folders(path)
        write_synced(path / name, nonce)
        found = (path / name).read_bytes()
        (path / name).unlink()
    if found != nonce.encode():
        got = "nothing" if found is None else f"{len(found)} other bytes"
        raise CkptError(
            f"{redacted(dest)}/{name}: {len(nonce)} bytes were written, {got} came back",
            remedy="look at the store's own log, or choose another place",
        )


def steps_there(run: str) -> list[int]:
    """Return the steps of a run whose copies came to their end, ascending.

    Args:
        run: the run's folder, a path or a URL that fsspec lists; it need not be there.

    Raises:
        UsageError: it is no URL that can be read here.
        CkptError: the store can't be reached or refuses.
        OSError: the disk refuses.
    """
    path = local_path(run)
    if path is not None:
        return [checkpoint.step for checkpoint in list_checkpoints(path) if checkpoint.committed]
    folders = [name.split("/") for name in Remote(run).sizes(CHECKPOINTS_DIR)]
    steps = [our_step(folder[0]) for folder in folders if folder[1:] == [MANIFEST_NAME]]
    return sorted(step for step in steps if step is not None)
