"""What is copied: the checkpoints below a place, each of which appears at once at the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from orz_ckpt.checks.manifest import code_of, remedy_of
from orz_ckpt.copy.damaged import COPY_ANOTHER, absent
from orz_ckpt.copy.tree import Tree
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.inventory import CHECKPOINTS_DIR
from orz_ckpt.manifest import (
    MANIFEST_NAME,
    PRIVATE_DIR,
    FileEntry,
    Manifest,
    ManifestError,
    check_size,
    loads,
)
from orz_ckpt.quoting import shell_path
from orz_ckpt.report.words import count
from orz_ckpt.steps import attempt_named, our_step
from orz_ckpt.storage import PENDING_NAME
from orz_ckpt.subject import is_newer, is_our_manifest
from orz_ckpt.urls import is_url


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A checkpoint, or a folder that no manifest covers."""

    rel: str
    """Its folder, relative to source and destination; empty for these themselves."""
    files: Mapping[str, int]
    """Relative to its folder -> bytes; without the manifest."""
    manifest: Manifest | None
    text: bytes = b""
    """Of the manifest, as it is."""
    stamps: Mapping[str, object] = field(default_factory=dict)
    """What each file was known by before any was read; of a folder that no manifest covers."""

    @property
    def entries(self) -> Mapping[str, FileEntry]:
        """What the manifest says of its files."""
        return {} if self.manifest is None else self.manifest.files

    @property
    def bytes(self) -> int:
        """Of its files."""
        return sum(self.files.values())

    @property
    def identity(self) -> str:
        """Tells a copy of these very files from another one: their digests, or names and sizes where none is known."""
        if self.manifest is not None:
            return self.manifest.root_sha256
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()

    def key(self, name: str) -> str:
        """Return the name of a file relative to source and destination."""
        return f"{self.rel}/{name}" if self.rel else name


def plan_copy(tree: Tree) -> tuple[list[Unit], list[CkptFinding]]:
    """Return the units below `tree`, and why something else is not copied.

    Of a run these are its committed steps; of any other folder all it holds.

    Raises:
        OrzError: it cannot be listed.
    """
    sizes = tree.sizes()
    findings: list[CkptFinding] = []
    units: list[Unit] = []
    steps = _steps(sizes)
    for rel in steps or [""]:
        prefix = f"{rel}/" if rel else ""
        mine = {name.removeprefix(prefix): nbytes for name, nbytes in sizes.items() if name.startswith(prefix)}
        unit = _unit(tree, rel, mine, findings)
        if unit is not None:
            units.append(unit)
    return units, findings


def _steps(sizes: Mapping[str, int]) -> list[str]:
    """Return the step folders of a run, or of the folder of its checkpoints; none of any other folder."""
    found = set()
    for name in sizes:
        parts = name.split("/")
        below_a_step = len(parts) > 2  # noqa: PLR2004  checkpoints, the step, a file in it
        if below_a_step and parts[0] == CHECKPOINTS_DIR and attempt_named(parts[1]) is None:
            found.add("/".join(parts[:2]))
    return sorted(found) or _steps_right_in(sizes)


def _steps_right_in(sizes: Mapping[str, int]) -> list[str]:
    """Return the step folders of a folder that holds nothing but them, with a manifest in one; else none.

    By their names alone they may be another trainer's; and what lies beside them would be left behind.
    """
    names = {name.partition("/")[0] for name in sizes}
    steps = sorted(name for name in names if our_step(name) is not None)
    alone = all(our_step(name) is not None or attempt_named(name) is not None for name in names)
    return steps if alone and any(f"{step}/{MANIFEST_NAME}" in sizes for step in steps) else []


def _unit(tree: Tree, rel: str, sizes: Mapping[str, int], findings: list[CkptFinding]) -> Unit | None:
    where = f"{tree.shown}/{rel}" if rel else tree.shown
    path = f"{where}/{MANIFEST_NAME}"
    name = f"{rel}/{MANIFEST_NAME}" if rel else MANIFEST_NAME
    try:
        check_size(sizes.get(MANIFEST_NAME, 0), source=path)
    except ManifestError as error:
        findings.append(_unusable(error, path))
        return None
    text = tree.text(name) if MANIFEST_NAME in sizes else None
    if text is None or not _is_ours(text, where, sizes):
        if rel or any(part.startswith(f"{PRIVATE_DIR}/") for part in sizes):
            lack = f"there is no {MANIFEST_NAME}" if text is None else f"its {MANIFEST_NAME} is another program's"
            message = f"{lack}: the save never came to its end, and it was not copied"
            remedy = COPY_ANOTHER if is_url(tree.shown) else f"orz ckpt verify {shell_path(where)}"
            findings.append(finding("uncommitted", message, remedy=remedy, path=where))
            return None
        message = "there is no manifest: bytes that changed before they were copied cannot be told"
        findings.append(finding("no_manifest", message, path=where))
        return Unit(rel=rel, files=sizes, manifest=None, stamps=tree.stamps(sizes))
    try:
        manifest = loads(text, source=path)
    except ManifestError as error:
        findings.append(_unusable(error, path))
        return None
    files, left = _chosen(sizes, manifest)
    bad = [
        finding(*_differing(entry.size, sizes.get(name)), remedy=COPY_ANOTHER, path=f"{where}/{name}")
        for name, entry in manifest.files.items()
        if sizes.get(name) != entry.size
    ]
    if bad:
        findings += bad
        return None
    if left:
        message = f"{count(len(left), 'file')} that the manifest does not name: {', '.join(left[:3])}"
        findings.append(finding("collect_left", message, path=where))
    return Unit(rel=rel, files=files, manifest=manifest, text=text)


def _is_ours(text: bytes, where: str, sizes: Mapping[str, int]) -> bool:
    """Return whether the manifest of a folder is one of ours; where nothing is beside it, what it says is enough."""
    if sizes.keys() == {MANIFEST_NAME} and is_newer(text):
        return True
    folders = {folder for folder, separator, _ in (name.partition("/") for name in sizes) if separator}
    return is_our_manifest(text, where.rpartition("/")[2], folders)


def _unusable(error: ManifestError, path: str) -> CkptFinding:
    code = code_of(error)
    return finding(code, str(error), remedy=remedy_of(code, COPY_ANOTHER), path=path)


def _differing(expected: int, got: int | None) -> tuple[str, str]:
    """Return code and message of a file that is not there, or of another size."""
    if got is None:
        return "file_missing", absent(expected)
    return "size_differs", f"expected {expected:,} bytes, got {got:,}"


def _chosen(sizes: Mapping[str, int], manifest: Manifest) -> tuple[dict[str, int], list[str]]:
    """Return what the manifest names and what nodes recorded, and the names of what else is there."""
    files: dict[str, int] = {}
    left = []
    for name, nbytes in sizes.items():
        private = name.startswith(f"{PRIVATE_DIR}/")
        if name in manifest.files or (private and name != f"{PRIVATE_DIR}/{PENDING_NAME}"):
            files[name] = nbytes
        elif name != MANIFEST_NAME and not private:
            left.append(name)
    return files, left
