"""What a command that goes on, or was cut off, keeps where its result will be: who looks there hears how it goes on."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from orz_ckpt.manifest import PRIVATE_DIR
from orz_ckpt.quoting import shell_path, shell_word
from orz_ckpt.strict_json import JsonError, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLLECT_DIR: Final = ".orz-collect"
"""In the destination of `orz ckpt collect`, until all has come."""
MERGE_JOURNAL: Final = "merge.jsonl"
"""In `PRIVATE_DIR`: what a merge has finished; gone when all of it is."""
GO_ON_MERGING: Final = "run the same `orz ckpt merge` again: it goes on from here; or remove this folder"
COLLECTING: Final = "a collection to it goes on, or was cut off"
_COPY_SUFFIX: Final = ".orz-copy"
_MERGE_SUFFIX: Final = ".tmp-merge"
_ASKED: Final = "asked.json"
_MAX_BYTES: Final = 64 * 1024


def copying(dest: Path) -> Path:
    """Return the folder in which `orz ckpt copy` keeps what becomes `dest`."""
    return dest.with_name(f".{dest.name}{_COPY_SUFFIX}")


def copied_in(folder: Path) -> list[Path]:
    """Return what copies make right in `folder` that go on or were cut off, and that is not there."""
    kept = folder.glob(f".?*{_COPY_SUFFIX}")
    made = (entry.with_name(entry.name[1:].removesuffix(_COPY_SUFFIX)) for entry in sorted(kept))
    return [dest for dest in made if not os.path.lexists(dest)]


def merging(out: Path) -> Path:
    """Return the folder in which `orz ckpt merge` keeps what becomes `out`."""
    return out.with_name(f"{out.name}{_MERGE_SUFFIX}")


def is_merging(folder: Path) -> bool:
    """Return whether `folder` is of a merge that is going on or was cut off."""
    return folder.name.endswith(_MERGE_SUFFIX) or (folder / PRIVATE_DIR / MERGE_JOURNAL).is_file()


def note_collection(folder: Path, runs: Sequence[str], nodes: Sequence[str]) -> None:
    """Note in a `COLLECT_DIR` what was asked for.

    Args:
        folder: that one.
        runs: as they were given.
        nodes: the words of the command line that say which nodes were asked, and how long they could search.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps({"runs": list(runs), "nodes": list(nodes)})
    (folder / _ASKED).write_text(text, encoding="utf-8")


def go_on_collecting(dest: Path) -> str:
    """Return the command that goes on with a collection to `dest`; empty where none goes on, or was cut off, there."""
    folder = dest / COLLECT_DIR
    if not _is_folder(folder):
        return ""
    runs, nodes = _asked(folder)
    # Each word is quoted, whoever wrote the file: it can be nothing but this command.
    words = [*map(shell_path, runs or ["RUN"]), "--to", shell_path(dest), *map(shell_word, nodes)]
    return f"orz ckpt collect {' '.join(words)}{'' if runs else '    # with the words that it was begun with'}"


def note_begun(folder: Path, source: str, *, kind: str = "", options: Sequence[str] = ()) -> None:
    """Note from where a copy, a merge or a conversion writes; where the disk refuses, nobody is told later.

    Args:
        folder: in which it keeps what it has.
        source: without secrets, and the same wherever the command is given again.
        kind: of command, where that may be another than the folder's name says.
        options: without which it would be another command.
    """
    text = json.dumps({"kind": kind, "source": source, "options": list(options)})
    with suppress(OSError):
        (folder / _ASKED).write_text(text, encoding="utf-8")


def begun_at(path: Path) -> tuple[str, str] | None:
    """Return what goes on or was cut off that makes `path`, which is not there, and what to do; None if nothing is."""
    for kind, folder, notes in (
        ("copy", copying(path), copying(path)),
        ("merge", merging(path), merging(path) / PRIVATE_DIR),
    ):
        if _is_folder(folder):
            said = _said(notes)
            source = said.get("source")
            name = "convert" if said.get("kind") == "convert" else kind
            begun_from = shell_path(source) if isinstance(source, str) and source else "SRC"
            # Each word is quoted, whoever wrote the file: it can be nothing but this command.
            words = [begun_from, shell_path(path), *map(shell_word, _words(said.get("options")))]
            command = f"orz ckpt {name} {' '.join(words)}"
            noun = "conversion" if name == "convert" else name
            options = "" if name == "copy" else ", with the options that it had"
            return f"a {noun} to it goes on, or was cut off", f"give its command again{options}: {command}"
    return None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # who may not look there is told so by the command itself


def _asked(folder: Path) -> tuple[list[str], list[str]]:
    said = _said(folder)
    return _words(said.get("runs")), _words(said.get("nodes"))


def _said(folder: Path) -> dict[str, Any]:
    """Return what was noted in `folder`; nothing where that cannot be read."""
    try:
        with (folder / _ASKED).open("rb") as stream:
            document: Any = parse(stream.read(_MAX_BYTES))
    except (OSError, JsonError):
        return {}
    return document if isinstance(document, dict) else {}


def _words(value: object) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
