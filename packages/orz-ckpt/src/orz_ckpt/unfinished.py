"""What a command that goes on, or was cut off, keeps where its result will be: who looks there hears how it goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from orz_ckpt.manifest import PRIVATE_DIR
from orz_ckpt.quoting import shell_word
from orz_ckpt.strict_json import JsonError, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLLECT_DIR: Final = ".orz-collect"
"""In the destination of `orz ckpt collect`, until all has come."""
MERGE_JOURNAL: Final = "merge.jsonl"
"""In `PRIVATE_DIR`: what a merge has finished; gone when all of it is."""
COLLECTING: Final = "a collection to it goes on, or was cut off"
_MERGE_SUFFIX: Final = ".tmp-merge"
_ASKED: Final = "asked.json"
_MAX_BYTES: Final = 64 * 1024


def copying(dest: Path) -> Path:
    """Return the folder in which `orz ckpt copy` keeps what becomes `dest`."""
    return dest.with_name(f".{dest.name}.orz-copy")


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
        nodes: the words of the command line that say which nodes were asked.

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
    words = [*map(shell_word, runs or ["RUN"]), "--to", shell_word(str(dest)), *map(shell_word, nodes)]
    return f"orz ckpt collect {' '.join(words)}{'' if runs else '    # with the words that it was begun with'}"


def begun_at(path: Path) -> tuple[str, str] | None:
    """Return what goes on or was cut off that makes `path`, which is not there, and what to do; None if nothing is."""
    where = shell_word(str(path))
    for kind, folder, words in (("copy", copying, f"SRC {where}"), ("merge", merging, f"SRC {where}")):
        if _is_folder(folder(path)):
            return f"a {kind} to it goes on, or was cut off", f"give its command again: orz ckpt {kind} {words}"
    return None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # who may not look there is told so by the command itself


def _asked(folder: Path) -> tuple[list[str], list[str]]:
    try:
        with (folder / _ASKED).open("rb") as stream:
            document: Any = parse(stream.read(_MAX_BYTES))
    except (OSError, JsonError):
        return [], []
    said = document if isinstance(document, dict) else {}
    return _words(said.get("runs")), _words(said.get("nodes"))


def _words(value: object) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
