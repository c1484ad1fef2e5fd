"""One manifest from what several nodes recorded of their files: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from orz_ckpt.manifest import MANIFEST_NAME, FileEntry, Manifest, ManifestError, dumps, loads
from orz_ckpt.records import nodes_of, record_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Unusable:
    """A manifest or record that cannot be used."""

    node: str
    """Where it lies."""
    name: str
    """Below the step folder."""
    error: ManifestError


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """What the nodes of one checkpoint recorded."""

    manifests: tuple[Manifest, ...]
    """Committed ones first."""
    texts: Mapping[str, str]
    """The records as they are, by name below the step folder; where nodes have different ones of a name, the first."""
    unusable: tuple[Unusable, ...] = ()

    @property
    def entries(self) -> dict[str, FileEntry]:
        """Every file that a record names."""
        found: dict[str, FileEntry] = {}
        for manifest in self.manifests:
            for name, entry in manifest.files.items():
                earlier = found.get(name)
                # The entry with tensors says more of the same bytes.
                if earlier is None or (earlier.tensors is None and entry.tensors is not None):
                    found[name] = entry
        return found

    @property
    def disagreements(self) -> list[str]:
        """Return the files of which two records state different bytes."""
        digests: dict[str, set[tuple[str, str]]] = {}
        for manifest in self.manifests:
            for name, entry in manifest.files.items():
                digests.setdefault(name, set()).add((entry.algo, entry.digest))
        by_algo = {name: {algo for algo, _ in found} for name, found in digests.items()}
        return sorted(name for name, found in digests.items() if len(found) > len(by_algo[name]))


def read_records(texts: Iterable[tuple[str, Mapping[str, str]]]) -> Records:
    """Read the manifests and records of all pieces of one checkpoint.

    Args:
        texts: of each piece its node, and name below its folder -> text.
    """
    committed, begun, bad = list[Manifest](), list[Manifest](), list[Unusable]()
    kept: dict[str, str] = {}
    for node, piece in texts:
        for name, text in piece.items():
            kept.setdefault(name, text)
            try:
                (committed if name == MANIFEST_NAME else begun).append(loads(text, source=name))
            except ManifestError as error:
                bad.append(Unusable(node=node, name=name, error=error))
    return Records(manifests=(*committed, *begun), texts=kept, unusable=tuple(bad))


def merged_manifest(records: Records, extra: Mapping[str, FileEntry]) -> tuple[Manifest, str] | None:
    """Return the manifest of everything together and its text; None where no node recorded anything.

    Where one of the manifests says all of it already, its own text is kept, byte for byte.

    Args:
        records: of all nodes.
        extra: files that no record names, such as what a driver wrote beside the weights.
    """
    if not records.manifests:
        return None
    files = {**extra, **records.entries}
    text = records.texts.get(MANIFEST_NAME)
    for manifest in records.manifests:
        if manifest.files == files and text is not None and _says(text, manifest):
            return manifest, text
    first = records.manifests[0]
    roles = {role: folder for manifest in reversed(records.manifests) for role, folder in manifest.roles.items()}
    meta = {key: value for manifest in reversed(records.manifests) for key, value in manifest.meta.items()}
    merged = replace(first, files=files, roles=roles, meta=meta)
    return merged, dumps(merged)


def say_the_same(texts: Iterable[str]) -> bool:
    """Return whether manifests name the same files with the same bytes; False, too, where one cannot be used."""
    try:
        said = [loads(text, source=MANIFEST_NAME) for text in texts]
    except ManifestError:
        return False
    named = [{name: (entry.size, entry.algo, entry.digest) for name, entry in one.files.items()} for one in said]
    return all(files == named[0] for files in named)


def missing_nodes(records: Records) -> list[str]:
    """Return the nodes that took part in the save, as any record says, and of which there is no record."""
    nodes = {node for manifest in records.manifests for node in nodes_of(manifest)}
    return sorted(node for node in nodes if record_name(node) not in records.texts)


def _says(text: str, manifest: Manifest) -> bool:
    return loads(text).root_sha256 == manifest.root_sha256
