"""What a merge of ours was not given, and the command that writes it with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from orz_ckpt.quoting import shell_path, shell_word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.manifest import Manifest


def merge_again(findings: Sequence[CkptFinding], manifest: Manifest | None) -> list[CkptFinding]:
    """Return `findings` with the merge that leaves no configuration out, where a merge is what wrote the folder.

    Args:
        findings: of the folder.
        manifest: of the folder; of a merge it states the source.
    """
    source = manifest.meta.get("source") if manifest is not None and "merge" in manifest.meta else None
    path = source.get("path") if isinstance(source, dict) else None
    if not isinstance(source, dict) or not isinstance(path, str) or not path.isprintable():
        return list(findings)
    command = f"orz ckpt merge {shell_path(path)} OUT --config DIR{_tag_option(source, path)}"
    remedy = f"{command}    # DIR: the folder of the model that was trained"
    return [replace(entry, remedy=remedy) if entry.code == "config_missing" else entry for entry in findings]


def _tag_option(source: Mapping[str, object], path: str) -> str:
    """Return ` --tag TAG` of a folder of DeepSpeed: its `latest` may name another by now."""
    tag = source.get("tag")
    if not isinstance(tag, str) or not tag.isprintable() or tag in {"", PurePath(path).name}:
        return ""
    return f" --tag {shell_word(tag)}"
