"""Where a path that was given on another machine, or relative to an unknown folder, may lie here.

A relative path means the working directory of whoever opens it. In a Ray actor that is the folder in which
`ray start` was called on its node (often the home directory), or a runtime environment that Ray made and removes
again. All of them outlive the job as working directories of processes, or as folders, for a while.

Source: ray 2.60.0: `_private/node.py` (session folders below `RAY_TMPDIR`, `/tmp/ray`), `setproctitle("ray::...")`.
"""
# ruff: noqa: PTH112, PTH207  paths are text here

from __future__ import annotations

import errno
import glob
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from orz_ckpt.node.identity import working_directory
from orz_ckpt.node.processes import processes, ray_process, raylets

_MAX_HOMES: Final = 100
_MAX_SUFFIX_PARTS: Final = 3
_RUNTIME: Final = "session_*/runtime_resources/working_dir_files/*"
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


@dataclass(frozen=True, kw_only=True, slots=True)
class Root:
    """A folder that a relative path may have meant."""

    path: str
    why: str


def find_roots(*, driver_cwd: str = "") -> list[Root]:
    """Return the folders on this machine that a relative path may have meant, each once, the likeliest first.

    Args:
        driver_cwd: working directory of the command that asks, which may be on another machine.
    """
    found: dict[str, Root] = {}
    for path, why in _all_roots(driver_cwd):
        if not path:
            continue
        try:
            real = os.path.realpath(path)
            if os.path.isdir(real):
                found.setdefault(real, Root(path=real, why=why))
        except OSError:
            continue
    return list(found.values())


def find_run(run: str, roots: Iterable[Root]) -> list[Root]:
    """Return the folders that `run` may mean here and that are there, each once."""
    found: dict[str, Root] = {}
    for path, why in _spellings(run, list(roots)):
        try:
            real = os.path.realpath(path)
            if os.path.isdir(real):
                found.setdefault(real, Root(path=real, why=why))
        except OSError:
            continue
    return list(found.values())


def why_unknown(run: str, *, driver_cwd: str = "") -> tuple[str, str] | None:
    """Return the path that `run` itself means, and why nobody can tell here if it is there; None if one can.

    Args:
        run: as for `find_run`.
        driver_cwd: working directory of the command that asks: where `run` is relative, it means a folder there.
    """
    path = os.path.join(driver_cwd or working_directory(), run)  # noqa: PTH118  paths are text here
    try:
        os.stat(path)  # noqa: PTH116  as above
    except OSError as error:
        return None if error.errno in _NOT_THERE else (path, error.strerror or str(error))
    return None


def _spellings(run: str, roots: list[Root]) -> Iterator[tuple[str, str]]:
    pure = PurePosixPath(run)
    if pure.is_absolute():
        yield run, "the path itself"
        parts = pure.parts[1:]
        suffixes = ["/".join(parts[-count:]) for count in range(min(_MAX_SUFFIX_PARTS, len(parts)), 0, -1)]
    else:
        suffixes = [run]
    for suffix in suffixes:
        for root in roots:
            yield f"{root.path.rstrip('/')}/{suffix}", f"below {root.why}"


def _all_roots(driver_cwd: str) -> Iterator[tuple[str, str]]:
    yield from _of_processes()
    yield working_directory(), "the working directory"
    if driver_cwd:
        yield driver_cwd, "the working directory of the command"
    yield str(Path.home()), "the home directory"
    for folder in _ray_folders():
        for path in sorted(glob.glob(f"{glob.escape(folder)}/{_RUNTIME}")):
            yield path, "a runtime environment of Ray"
    yield from _homes()


def _of_processes() -> Iterator[tuple[str, str]]:
    """Yield the working directories of Ray's processes here."""
    for process in processes():
        name = ray_process(process.words[0])
        if name and process.cwd:
            yield process.cwd, f"the working directory of {name}"


def _ray_folders() -> list[str]:
    """Return the folders in which Ray keeps its sessions."""
    named = [folder for variable in ("RAY_TMPDIR", "TMPDIR") if (folder := os.environ.get(variable))]
    running = [folder for flags in raylets() if (folder := flags.get("temp_dir"))]
    folders = [*named, *(f"{folder}/ray" for folder in named), *running, f"{tempfile.gettempdir()}/ray", "/tmp/ray"]  # noqa: S108
    return list(dict.fromkeys(folders))


def _homes() -> Iterator[tuple[str, str]]:
    try:
        import pwd  # noqa: PLC0415  Windows has none
    except ImportError:
        return
    people = [entry for entry in pwd.getpwall() if entry.pw_uid == 0 or 1000 <= entry.pw_uid < 60000]  # noqa: PLR2004
    for entry in people[:_MAX_HOMES]:
        yield entry.pw_dir, f"the home directory of {entry.pw_name}"
