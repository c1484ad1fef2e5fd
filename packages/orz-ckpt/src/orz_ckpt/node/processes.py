"""Processes of this machine that tell where a job ran: Ray's. Read from /proc; elsewhere there are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """One process that this user may look at."""

    words: tuple[str, ...]
    """Its command line; never empty."""
    cwd: str
    """Its working directory; empty where that is not to be seen."""


def processes() -> Iterator[Process]:
    """Yield the processes here, by number."""
    try:
        folders = sorted((path for path in _PROC.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    except OSError:
        return
    for folder in folders:
        try:
            words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").rstrip("\0").split("\0")
        except OSError:
            continue  # it ended
        try:
            cwd = str((folder / "cwd").readlink())
        except OSError:
            cwd = ""
        yield Process(words=tuple(words), cwd=cwd)


def ray_process(word: str) -> str:
    """Return what a process with this first word is to Ray: `the raylet`, `a Ray worker`, or nothing.

    Source: ray 2.60.0, `_private/services.py` (`raylet`) and `setproctitle("ray::...")` of its workers.
    """
    if Path(word).name == "raylet":
        return "the raylet"
    return "a Ray worker" if word.startswith("ray::") else ""


def raylets() -> list[dict[str, str]]:
    """Return the flags of each raylet here: `gcs-address`, `temp_dir`, `node_ip_address`, ..."""
    found = [process.words for process in processes() if ray_process(process.words[0]) == "the raylet"]
    return [dict(word.removeprefix("--").split("=", 1) for word in words[1:] if "=" in word) for words in found]
