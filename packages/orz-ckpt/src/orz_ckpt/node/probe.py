"""Whether checkpoints can be written to a folder as they are: create, write, flush, read back, rename, remove.

Everything happens in `<folder>/.orz-preflight/`. What a probe made, `clean` removes; what an earlier one left when
it was killed goes by age.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from orz_ckpt.disk.durable import sync_file, sync_folder
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.mounts import find_mount, in_ray_session
from orz_ckpt.disk.space import free_and_inodes

PROBES_DIR: Final = ".orz-preflight"
OLD_S: Final = 3600.0
"""Probes older than this belong to nobody."""
SPEED_BLOCK_BYTES: Final = 4 * 1024 * 1024
SPEED_BUDGET_S: Final = 3.0
_LEFT_FREE: Final = 10
"""The speed is measured with at most one part in this many of what is free."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderFacts:
    """What one node knows of the folder that checkpoints are to go to."""

    asked: str
    """The path as it was given."""
    path: str
    """What it means to a process here: absolute."""
    absolute: bool
    real: str = ""
    """With all links followed."""
    existed: bool = False
    created: list[str] = field(default_factory=list)
    """Folders made for the probe, outermost first; `clean` takes them away."""
    fstype: str = ""
    source: str = ""
    mount_point: str = ""
    options: list[str] = field(default_factory=list)
    network: bool = False
    bucket: bool = False
    read_only: bool = False
    ephemeral: str = ""
    """`memory`, `overlay`, `ray`; empty where nothing says so."""
    free_bytes: int | None = None
    free_inodes: int | None = None
    failed_step: str = ""
    """`folder`, `create`, `write`, `flush`, `read back`, `rename`, `remove`, `flush folder`; empty if all went well."""
    error_number: int = 0
    error: str = ""
    leads_nowhere: bool = False
    """Whether a link to nothing is in the way."""
    bytes_per_s: float | None = None
    """What was written and flushed in a second, while other nodes did the same; None where it was not measured."""
    seconds: float = 0.0


def probe(asked: str, *, attempt: str, nonce_name: str, nonce: str, speed_bytes: int = 0) -> FolderFacts:
    """Try everything that a save does in the folder `asked`, and leave a file with a nonce there.

    Args:
        asked: the folder, as the run's configuration will name it; made if it is not there.
        attempt: name of this preflight, the same on all nodes.
        nonce_name: name of the file that other nodes are to open.
        nonce: its content.
        speed_bytes: how much to write for the estimate of the speed.
    """
    begin = time.perf_counter()
    path = Path(asked).absolute()
    facts = FolderFacts(asked=asked, path=str(path), absolute=Path(asked).is_absolute(), existed=_is_folder(path))
    created: list[Path] = []
    own = path / PROBES_DIR / attempt
    trial: list[tuple[str, Callable[[], object]]] = [
        ("folder", partial(_make, own, created)),
        *_trial(own, nonce_name, nonce.encode("ascii")),
    ]
    for step, attempted in trial:
        try:
            attempted()
        except OSError as error:
            facts = replace(facts, failed_step=step, error_number=error.errno or 0, error=error.strerror or str(error))
            if error.errno == errno.ENOTDIR and isinstance(error.filename, str):
                facts = replace(facts, leads_nowhere=_leads_nowhere(Path(error.filename)))
            break
    facts = replace(_described(facts, path), created=[str(folder) for folder in created if folder != own])
    speed = None
    if not facts.failed_step:
        sweep(path, keep=attempt)
        speed = _speed(own / f"{nonce_name}.speed", min(speed_bytes, (facts.free_bytes or 0) // _LEFT_FREE))
    return replace(facts, bytes_per_s=speed, seconds=time.perf_counter() - begin)


def clean(asked: str, *, attempt: str, created: list[str]) -> None:
    """Remove what `probe` left: the files of this attempt, and the folders that it made if nothing else is in them."""
    folder = Path(asked).absolute() / PROBES_DIR
    shutil.rmtree(folder / attempt, ignore_errors=True)
    made = [Path(name) for name in reversed(created)]
    for empty in (folder, *made):
        with suppress(OSError):  # another node's probe, or somebody's files, are still in it
            empty.rmdir()


def sweep(path: Path, *, keep: str = "", older_than_s: float = OLD_S) -> None:
    """Remove probes that an earlier preflight had no time to remove, whatever its name; `keep` stays."""
    now = time.time()
    for folder in (path / PROBES_DIR).iterdir():
        with suppress(OSError):  # another node may be at it
            if folder.name != keep and now - folder.stat().st_mtime > older_than_s:
                shutil.rmtree(folder, ignore_errors=True)


def _make(path: Path, created: list[Path]) -> None:
    for folder in reversed([path, *path.parents]):
        try:
            folder.mkdir()
        except FileExistsError:
            if not _is_folder(folder):
                raise NotADirectoryError(errno.ENOTDIR, _instead(folder), str(folder)) from None
            continue
        except OSError:  # some systems refuse before they look, as on a read-only disk
            if _is_folder(folder):
                continue
            raise
        created.append(folder)


def _instead(path: Path) -> str:
    """Return what is there instead of a folder."""
    return f"{path} is a link to {resolved(path)}, and nothing is there" if _leads_nowhere(path) else "not a folder"


def _leads_nowhere(path: Path) -> bool:
    """Return whether a path is a link to nothing; one in a circle leads to itself."""
    return path.is_symlink() and not os.path.lexists(resolved(path))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a parent that this user may not look into
        return False


def _trial(folder: Path, name: str, content: bytes) -> list[tuple[str, Callable[[], object]]]:
    """Return what a save does to a file, step by step; at the end `name` is there with `content`."""
    part, final = folder / f"{name}.part", folder / name

    def create() -> None:
        part.open("xb").close()

    def write() -> None:
        part.write_bytes(content)

    def read_back() -> None:
        _same(part, content)

    def rename() -> None:
        part.rename(final)
        _same(final, content)
        if part.exists():
            raise OSError(errno.EIO, "the old name is still there")

    def remove() -> None:
        part.write_bytes(content)
        part.unlink()
        if part.exists():
            raise OSError(errno.EIO, "the file is still there")

    return [
        ("create", create),
        ("write", write),
        ("flush", partial(sync_file, part)),
        ("read back", read_back),
        ("rename", rename),
        ("remove", remove),
        ("flush folder", partial(sync_folder, folder)),
    ]


def _same(path: Path, content: bytes) -> None:
    if path.read_bytes() != content:
        raise OSError(errno.EIO, "other bytes came back than were written")


def _described(facts: FolderFacts, path: Path) -> FolderFacts:
    """Add what the system says about the deepest folder on the way to `path` that is there."""
    there = next((folder for folder in (path, *path.parents) if _is_folder(folder)), path)
    mount = find_mount(there)
    free, inodes = free_and_inodes(there)
    real = resolved(path)
    facts = replace(facts, real=str(real), free_bytes=free, free_inodes=inodes)
    if in_ray_session(real):
        facts = replace(facts, ephemeral="ray")
    if mount is None:
        return facts
    return replace(
        facts,
        fstype=mount.fstype,
        source=mount.source,
        mount_point=mount.point,
        options=list(mount.options),
        network=mount.network,
        bucket=mount.bucket,
        read_only=mount.read_only,
        ephemeral=facts.ephemeral or mount.ephemeral,
    )


def _speed(path: Path, nbytes: int) -> float | None:
    """Write up to `nbytes` and flush them, within a time budget; return bytes a second."""
    block = memoryview(os.urandom(SPEED_BLOCK_BYTES))
    if nbytes < len(block):
        return None
    written, begin = 0, time.perf_counter()
    try:
        with path.open("xb", buffering=0) as stream:
            while written + len(block) <= nbytes and time.perf_counter() - begin < SPEED_BUDGET_S:
                written += stream.write(block) or 0
            os.fsync(stream.fileno())
        return written / (time.perf_counter() - begin)
    except OSError:
        return None
    finally:
        path.unlink(missing_ok=True)
