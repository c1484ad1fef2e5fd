"""Look for weights below a folder: by names, within bounds of depth and time."""
# ruff: noqa: PTH116, PTH119  paths are text here

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orz_ckpt.disk import walk
from orz_ckpt.node.links import Links, may_hide_newest
from orz_ckpt.node.pieces import STEP, LocatedPiece, is_in, run_folder
from orz_ckpt.node.scanned import Scan
from orz_ckpt.node.signatures import Signature, recognise
from orz_ckpt.node.step_folder import is_step
from orz_ckpt.node.wants import wants_of, wants_of_step, without_torn
from orz_ckpt.steps import attempt_named, step_named, thrown_name
from orz_ckpt.unfinished import COLLECT_DIR

MAX_DEPTH: Final = 6
"""Folders below one where anything may lie, such as a home directory."""
MAX_DEPTH_OF_RUN: Final = 16
"""Folders below a run that was named."""
MAX_DEPTH_OF_STEP: Final = walk.MAX_DEPTH
"""Folders below a step: all of it is looked at, or it would not be collected whole."""
BUDGET_S: Final = 20.0
MAX_PIECES: Final = 2000
_SKIPPED: Final = frozenset(
    {
        ".git",
        ".nox",
        COLLECT_DIR,
        ".tox",
        ".venv",
        "__pycache__",
        "dist-packages",
        "lost+found",
        "node_modules",
        "site-packages",
    }
)
_SKIPPED_AT_TOP: Final = frozenset({"proc", "sys", "dev", "usr", "boot", "etc"})
_COPYING: Final = re.compile(r"\..+\.orz-copy")
"""What `orz ckpt copy` was cut off in: the checkpoint that it copies is found where it lies."""
_HUB_CACHE: Final = "models--"


def scan(
    root: Path,
    *,
    base: str = "",
    max_depth: int | None = None,
    deadline: float | None = None,
    all_disks: bool = False,
) -> Scan:
    """Look for weights in `root` and below.

    Links are not followed and other disks not entered unless `all_disks`: checkpoints of a run often lie where there is
    room. Even then only those are followed that `links` names, and links to files are not. Caches and system folders
    are left out.

    Args:
        root: absolute.
        base: the run's folder, if `root` is known to be it; otherwise it is told from the names around each piece.
        max_depth: folders below `root`; `MAX_DEPTH_OF_RUN` of `all_disks`, else `MAX_DEPTH` by default.
        deadline: on `time.monotonic`; `BUDGET_S` from now by default.
        all_disks: of a run that was named by its path.
    """
    if max_depth is None:
        max_depth = MAX_DEPTH_OF_RUN if all_disks else MAX_DEPTH
    if deadline is None:
        deadline = time.monotonic() + BUDGET_S
    walk = _Walk(
        result=Scan(root=str(root)),
        base=base,
        max_depth=max_depth,
        deadline=deadline,
        device=None if all_disks else _device(root),
        links=Links(root=os.path.realpath(root), deadline=deadline),
    )
    walk.enter(str(root), 0)
    walk.follow()
    walk.conclude()
    return walk.result


@dataclass(slots=True)
class _Walk:
    """One search."""

    result: Scan
    base: str
    max_depth: int
    deadline: float
    device: int | None
    """The one not to leave; None where other disks are entered and links followed."""
    links: Links
    behind_links: bool = False
    """Whether what is looked at now lies behind one that was followed."""
    linked: list[str] = field(default_factory=list)
    """Folders whose weights are links to files."""

    def follow(self) -> None:
        """Look behind the links that were met."""
        self.behind_links = True
        while self.links.left:
            has_steps = any(piece.weights and piece.step is not None for piece in self.result.pieces)
            for end in self.links.next_round(has_steps=has_steps):
                self.enter(end.link.path, end.link.depth)
            self._name_steps()
            if time.monotonic() > self.deadline:
                self.result.cut_off("the time was up")

    def _name_steps(self) -> None:
        """Give weights in the run the step that only a link to them states; look behind it where none were found."""
        named, self.links.named = self.links.named, {}
        places = {piece.path: os.path.realpath(piece.path) for piece in self.result.pieces} if named else {}
        for target, link in named.items():
            if time.monotonic() > self.deadline:
                return
            if paths := {path for path, real in places.items() if is_in(real, target)}:
                self.result.state(link.step, paths)
            else:
                self.enter(link.path, link.depth)  # as in a cache of the hub, which is left out

    def conclude(self) -> None:
        """Say what was not looked at, and whether weights may be there."""
        weights = [piece for piece in self.result.pieces if piece.weights]
        for end in self.links.blocked:
            if may_hide_newest(end.link, weights):
                self.result.could_not_read(end.link.path, end.blocked, cause="dead link" if end.is_dead else "refused")
            else:
                self.result.leave_out(end.link.path, end.blocked)
        for path in self.linked:
            why = "its files are links, which are not followed"
            if weights and self.result.step_of(path) is None:
                self.result.leave_out(path, why)
            else:
                self.result.could_not_read(path, why, cause="links to files")
        for path, why in self.links.passed:
            self.result.leave_out(path, why)
        self.result.put_newest_first()

    def enter(self, path: str, depth: int) -> list[str]:
        """Look at one folder and below; return the files there that belong to no piece, absolute."""
        if time.monotonic() > self.deadline:
            self.result.cut_off("the time was up")
            return []
        if len(self.result.pieces) >= MAX_PIECES:
            self.result.cut_off(f"more than {MAX_PIECES:,} pieces")
            return []
        try:
            files, folders, links = self._list(path)
        except OSError as error:
            self._fail(path, error)
            return []
        self.result.folders += 1
        self.result.files += len(files)
        if is_step(Path(path), files, folders):
            self._add_step(path, [f"{path}/{file}" for file in files] + list(self._all_below(path, folders)))
            return []
        loose: list[str] = [f"{path}/{file}" for file in files]
        if depth < self.max_depth:
            for folder in folders:
                if self._enters(path, folder):
                    loose += self.enter(f"{path.rstrip('/')}/{folder}", depth + 1)
        elif folders or (links and self.device is None):
            self.result.leave_out(path, f"deeper than {self.max_depth} folders")
        signature = recognise(files, folders)
        is_piece = signature is not None and self._add_folder(path, signature, loose)
        if self.device is None:
            self._meet(path, links, depth + 1, beside_weights=is_piece)
        return [] if is_piece else loose

    def _meet(self, path: str, links: list[str], depth: int, *, beside_weights: bool) -> None:
        """Note the links in a folder that was looked at, to whatever."""
        if depth <= self.max_depth:
            self.links.meet(path, links, depth, beside_weights=beside_weights)
        if not beside_weights and recognise(links, ()) is not None:
            self.linked.append(path)

    def _add_folder(self, path: str, signature: Signature, loose: list[str]) -> bool:
        """Note a folder of another framework; return whether it is one after all."""
        sizes, newest = self._sizes(path, loose)
        wants = wants_of(Path(path), signature, sizes, deadline=self.deadline)
        if signature.kind == "dcp" and not signature.ranks and wants.names is None:
            return False  # a `.metadata` of something else
        wants = without_torn(Path(path), sizes, wants)
        self.result.pieces.append(
            LocatedPiece(
                path=path,
                base=self._base(path),
                kind=signature.kind,
                step=self.result.step_of(path) if self.base else step_named(path),
                files={file: size for file, size in sizes.items() if file not in wants.wrong_size},
                damaged={file: size for file, size in sizes.items() if file in wants.wrong_size},
                wants=wants.names,
                perhaps_more=wants.perhaps_more,
                copies=wants.copies,
                ranks=list(signature.ranks),
                committed=wants.committed,
                newest=newest,
                inode=_inode(path),
                note=wants.note,
            )
        )
        return True

    def _list(self, path: str) -> tuple[list[str], list[str], list[str]]:
        """Return the names of the files in a folder, of the folders, and of the links to whatever."""
        files, folders, links = [], [], []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
                elif entry.is_symlink():
                    links.append(entry.name)
        folders.sort()
        return files, folders, sorted(links)

    def _enters(self, path: str, folder: str) -> bool:
        if (
            folder in _SKIPPED
            or folder.startswith(_HUB_CACHE)
            or _COPYING.fullmatch(folder)
            or thrown_name(folder) is not None
            or (path == "/" and folder in _SKIPPED_AT_TOP)
        ):
            return False
        if self.device is not None and _device(f"{path}/{folder}") != self.device:
            self.result.leave_out(f"{path.rstrip('/')}/{folder}", "on another device")
            return False
        return True

    def _all_below(self, path: str, folders: list[str]) -> Iterator[str]:
        stack = [(f"{path}/{folder}", 1) for folder in reversed(folders)]
        while stack:
            below, depth = stack.pop()
            if time.monotonic() > self.deadline:
                self.result.cut_off("the time was up")
                return
            try:
                files, deeper, _ = self._list(below)
            except OSError as error:
                self._fail(below, error)
                continue
            self.result.folders += 1
            self.result.files += len(files)
            yield from (f"{below}/{file}" for file in files)
            if deeper and depth == MAX_DEPTH_OF_STEP:
                self.result.leave_out(below, f"deeper than {MAX_DEPTH_OF_STEP} folders in a step")
                continue
            stack += [(f"{below}/{folder}", depth + 1) for folder in reversed(deeper)]

    def _add_step(self, path: str, files: list[str]) -> None:
        sizes, newest = self._sizes(path, files)
        wants = wants_of_step(Path(path), sizes)
        if wants.names is None:
            wants = without_torn(Path(path), sizes, wants)
        name = os.path.basename(path)
        attempt = attempt_named(name)
        self.result.pieces.append(
            LocatedPiece(
                path=path,
                base=self._base(path),
                kind=STEP,
                step=wants.step if wants.step is not None else step_named(name),
                files={file: size for file, size in sizes.items() if file not in wants.wrong_size},
                damaged={file: size for file, size in sizes.items() if file in wants.wrong_size},
                wants=wants.names,
                ranks=[],
                committed=wants.committed if attempt is None else False,
                attempt=wants.attempt or attempt or "",
                in_flight=attempt is not None,
                newest=newest,
                inode=_inode(path),
                note=wants.note or _sizes_note(wants.wrong_size),
                problem=wants.problem,
            )
        )

    def _sizes(self, path: str, files: Sequence[str]) -> tuple[dict[str, int], float]:
        """Return the size of each file by its name below `path`, and when the newest was written."""
        sizes, newest = {}, 0.0
        for file in sorted(files):
            try:
                status = os.stat(file, follow_symlinks=False)
            except FileNotFoundError:
                continue  # it went away meanwhile
            except OSError as error:
                self._fail(file, error)
                continue
            sizes[file.removeprefix(path).lstrip("/")] = status.st_size
            newest = max(newest, status.st_mtime)
        return sizes, newest

    def _base(self, path: str) -> str:
        return self.base or run_folder(path)

    def _fail(self, path: str, error: OSError) -> None:
        """Note what could not be looked at; a folder that went away meanwhile holds nothing."""
        why = error.strerror or str(error)
        others = self.behind_links and isinstance(error, PermissionError)  # of other people, on a disk for all
        if isinstance(error, FileNotFoundError) or (others and self.result.step_of(path) is None):
            self.result.leave_out(path, why)
        else:
            self.result.could_not_read(path, why)


def _sizes_note(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    return f"{len(names)} of its files have another size than its manifest says: {', '.join(names[:3])}"


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _device(path: Path | str) -> int | None:
    try:
        return os.stat(path, follow_symlinks=False).st_dev
    except OSError:
        return None
