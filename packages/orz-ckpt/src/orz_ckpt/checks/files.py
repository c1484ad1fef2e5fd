"""Are all files there, nothing else, and of the right size?"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orz_ckpt.checks.elsewhere import COPY_AGAIN, locate_remedy
from orz_ckpt.checks.links import boundary, escape
from orz_ckpt.disk.walk import TooDeepError, walk
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR
from orz_ckpt.quoting import brief
from orz_ckpt.records import holders, is_this_machine, nodes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orz_ckpt.manifest import FileEntry, Manifest

READ_AGAIN = "check the permissions and the disk, then verify again"


@dataclass(slots=True)
class Listing:
    """The plain files below a folder, by path relative to it."""

    sizes: dict[str, int] = field(default_factory=dict)
    findings: list[CkptFinding] = field(default_factory=list)


def list_files(root: Path, prefix: str = "", *, deep: bool = True) -> Listing:
    """List the files below `root`, or only what `prefix` (a folder or a file in it) holds.

    A link is followed if it stays inside `root`, or inside the repository of a Hugging Face cache.
    Folders behind links are not entered.
    """
    listing = Listing()
    start = root / prefix
    limit = boundary(root)
    for path in [start] if not start.is_dir() else _walk(start, listing, deep=deep):
        name = path.relative_to(root).as_posix()
        if name == MANIFEST_NAME or name.startswith(f"{PRIVATE_DIR}/"):
            continue
        escaped = escape(path, limit)
        try:
            status = path.stat()
        except FileNotFoundError:
            message = f"it is a link to {path.readlink()}, where nothing is"
            listing.findings.append(finding("file_missing", message, remedy=COPY_AGAIN, path=path))
            continue
        except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.11 and 3.12 on links in a circle
            listing.findings.append(escaped or _unreadable(path, error))
            continue
        if escaped is not None:
            listing.findings.append(escaped)
        elif stat.S_ISREG(status.st_mode):
            listing.sizes[name] = status.st_size
        else:
            listing.findings.append(not_a_file(path))
    return listing


def not_a_file(path: Path) -> CkptFinding:
    """Say that there is a pipe, a device, or a link to a folder where a file should be."""
    return finding("not_a_file", "it is neither a plain file nor a folder", remedy="remove it", path=path)


def compare_files(root: Path, prefix: str, manifest: Manifest, listing: Listing) -> list[CkptFinding]:
    """Compare names and sizes with the manifest."""
    return [*_missing(root, prefix, manifest, listing), *_extra(root, manifest, listing)]


def entries_below(manifest: Manifest, prefix: str) -> Mapping[str, FileEntry]:
    """Return the entries of the file or of the files below the folder `prefix`; of all where it is empty."""
    if not prefix:
        return manifest.files
    return {name: entry for name, entry in manifest.files.items() if name == prefix or name.startswith(f"{prefix}/")}


def _missing(root: Path, prefix: str, manifest: Manifest, listing: Listing) -> Iterator[CkptFinding]:
    spoken_of = {Path(entry.path) for entry in listing.findings}
    held = holders(manifest)
    copy, others = COPY_AGAIN, nodes_of(manifest)[1:]
    if others and not held:
        copy += f"; {len(others) + 1} nodes saved this step, and another may have it: {locate_remedy(root)}"
    for name, entry in entries_below(manifest, prefix).items():
        path, size = root / name, listing.sizes.get(name)
        if size is None:
            if spoken_of.isdisjoint((path, *path.parents)):  # what is in a folder that cannot be listed may be there
                nodes = [node for node, names in held.items() if name in names]
                shown = [brief(node) + (", this machine" if is_this_machine(node) else "") for node in nodes[:3]]
                there = f"; it was saved on the disk of {', '.join(shown)}" if nodes else ""
                remedy = copy if all(map(is_this_machine, nodes)) else locate_remedy(root)
                message = f"it is not there; {entry.size:,} bytes expected{there}"
                yield finding("file_missing", message, remedy=remedy, path=path)
        elif size != entry.size:
            message = f"expected {entry.size:,} bytes, got {size:,}"
            tensors = (entry.tensors or {}).items()
            cut = min(((t.offset, tensor) for tensor, t in tensors if t.offset + t.nbytes > size), default=(0, ""))[1]
            if cut:
                message += f": {entry.size - size:,} bytes are missing, from tensor {cut!a} on"
            yield finding("size_differs", message, remedy=COPY_AGAIN, path=path, tensor=cut)


def _extra(root: Path, manifest: Manifest, listing: Listing) -> Iterator[CkptFinding]:
    for name, size in listing.sizes.items():
        if name not in manifest.files:
            message = f"it is not in the manifest ({size:,} bytes)"
            remedy = "remove it if nothing needs it; a loader may pick it up"
            yield finding("file_extra", message, remedy=remedy, path=root / name)


def _walk(start: Path, listing: Listing, *, deep: bool) -> Iterator[Path]:
    """Yield what is not a folder below `start`, by name; a link to a folder is not one."""

    def failed(folder: Path, error: OSError) -> None:
        if isinstance(error, TooDeepError):
            message = error.message.removeprefix(f"{folder}: ")
            listing.findings.append(finding("unreadable", message, remedy=error.remedy, path=folder))
        else:
            listing.findings.append(_unreadable(folder, error))

    for folder, names in walk(start, failed=failed):
        yield from (folder / name for name in names if deep or not _is_folder(folder / name))
        if not deep:
            return


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # whoever asks for its size is told why


def _unreadable(path: Path, error: Exception) -> CkptFinding:
    reason = getattr(error, "strerror", None) or error
    return finding("unreadable", f"cannot be read: {reason}", remedy=READ_AGAIN, path=path)
