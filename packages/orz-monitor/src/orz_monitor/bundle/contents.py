"""What goes into a bundle."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from orz_monitor.addresses import is_url
from orz_monitor.bundle.redaction import Redactor
from orz_monitor.dialects import Dialect
from orz_monitor.errors import UnreadableRunError, unreadable, unreadable_words
from orz_monitor.formats.document import Checked, as_json
from orz_monitor.judge import Judge
from orz_monitor.loading import load_run, refuse_missing
from orz_monitor.rotation import earlier_parts, listed
from orz_monitor.run_files import CONSOLE_FILE, RECORDS_FILE
from orz_monitor.settings import CONFIG_FILE
from orz_monitor.transport.pipes import is_pipe
from orz_monitor.units import counted

TAIL_BYTES: Final = 512 << 10
"""Of each log, the end that is taken."""
MOST_LOGS: Final = 256
MOST_BYTES: Final = 64 << 20
"""Of all files together."""
_WHOLE: Final = (CONFIG_FILE, "environment.json")
_ENDS: Final = (CONSOLE_FILE, RECORDS_FILE)
_LOG_ENDINGS: Final = (".log", ".out", ".err", ".txt")
_LOG_FOLDERS: Final = ("logs",)
_PACKAGES: Final = (
    *("orz-cli", "orz-ckpt", "orz-monitor", "orz-train", "torch", "transformers", "deepspeed", "vllm", "ray"),
    *("sglang", "verl", "openrlhf", "trl", "accelerate", "flash-attn", "numpy", "nvidia-nccl-cu12"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One file of a bundle.

    Attributes:
        name: its path in the bundle.
        text: what it holds, redacted.
        note: what a reader should know: what was cut off, how much was left out.
    """

    name: str
    text: str
    note: str = ""


def collect(
    path: Path, redactor: Redactor, dialects: Sequence[type[Dialect]] | None = None
) -> tuple[list[Item], list[str]]:
    """Collect what tells about a run: findings, configuration, versions, the ends of its logs.

    Links are not followed, so nothing from outside the run folder gets in.

    Args:
        path: a run folder, or a log on its own.
        redactor: what leaves secrets out.
        dialects: the dialects to read with; all known ones by default.

    Returns:
        The files, and what was left out for its size or kind.

    Raises:
        UnreadableRunError: there is nothing at `path`, it can't be read, or it is not on this machine.
    """
    if is_url(path) or str(path) == "-":
        raise UnreadableRunError(
            f"{'standard input' if str(path) == '-' else path}: a bundle is made of files of this machine",
            remedy="copy the log to one, and give that",
        )
    try:
        return _collected(path, redactor, dialects)
    except OSError as error:
        raise unreadable(path, error) from error


def _collected(
    path: Path, redactor: Redactor, dialects: Sequence[type[Dialect]] | None
) -> tuple[list[Item], list[str]]:
    """Collect what tells about a run on this machine."""
    refuse_missing(path)
    if is_pipe(path):
        raise UnreadableRunError(
            f"{path}: a pipe or a device: a bundle is made of files", remedy="write it to a file, and give that"
        )
    left_out: list[str] = []
    findings = _item("findings.json", redactor, lambda: _findings(path, dialects))
    items = [findings, _item("versions.json", redactor, _versions)]
    told, total = 0, 0
    for name, file, most in _files(path, left_out):
        try:
            text, note = _end_of(file, most)
        except OSError as error:
            left_out.append(unreadable_words(name, error))
            continue
        total += len(text)
        if total > MOST_BYTES:
            left_out.append(f"{name} and what follows: the bundle would be larger than {MOST_BYTES >> 20} MiB")
            break
        items.append(_item(name, redactor, lambda text=text: text, note))  # type: ignore[misc]
        told += 1
    if parts := earlier_parts(path) if path.is_file() else []:
        left_out.append(f"{listed(parts)}: earlier parts of the log, of which the findings tell, too")
    if not told and not _is_run(path, dialects):
        raise UnreadableRunError(
            f"{path}: no log, no records, no settings and no store of a run {'in it' if path.is_dir() else 'there'}",
            remedy="give a run folder, or a log on its own",
        )
    return items, left_out


def _item(name: str, redactor: Redactor, text: Callable[[], str], note: str = "") -> Item:
    """Make a file, redacted."""
    before = redactor.counts.total()
    redacted = redactor.redact(text())
    count = redactor.counts.total() - before
    notes = [note] if note else []
    if count:
        notes.append(f"{counted(count, 'secret')} left out")
    return Item(name=name, text=redacted, note="; ".join(notes))


def _findings(path: Path, dialects: Sequence[type[Dialect]] | None) -> str:
    """Judge the run, as `orz monitor check --json` does."""
    try:
        return as_json([Checked(path=path, verdict=Judge.of()(load_run(path, dialects=dialects), path))]) + "\n"
    except UnreadableRunError as error:
        return as_json([Checked(path=path, error=error)]) + "\n"


def _is_run(path: Path, dialects: Sequence[type[Dialect]] | None) -> bool:
    """Tell whether there is a run, in whatever form: compressed, a table, the store of another tool."""
    try:
        load_run(path, dialects=dialects)
    except UnreadableRunError:
        return False
    return True


def _versions() -> str:
    """Return the versions on this machine, which may be another than the run's; its own are in environment.json."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    system = {"python": sys.version, "platform": platform.platform(), "cpus": os.cpu_count()}
    return json.dumps({"machine": "where the bundle was made", **system, "packages": packages}, indent=2) + "\n"


def _files(path: Path, left_out: list[str]) -> Iterator[tuple[str, Path, int]]:
    """Yield the files to take: the name in the bundle, the file, and how much of its end."""
    if path.is_file():
        yield path.name, path, 4 * TAIL_BYTES
        return
    for name in _WHOLE:
        if _is_own(path / name, left_out):
            yield name, path / name, MOST_BYTES
    for name in _ENDS:
        if _is_own(path / name, left_out):
            yield name, path / name, 4 * TAIL_BYTES
    logs = [file for folder in _LOG_FOLDERS for file in _walk(path / folder, left_out)]
    logs += [
        f for f in sorted(path.iterdir()) if f.suffix in _LOG_ENDINGS and f.name not in _ENDS and _is_own(f, left_out)
    ]
    for file in logs[:MOST_LOGS]:
        yield file.relative_to(path).as_posix(), file, TAIL_BYTES
    if len(logs) > MOST_LOGS:
        left_out.append(f"{counted(len(logs) - MOST_LOGS, 'log')} more than {MOST_LOGS}")


def _walk(folder: Path, left_out: list[str]) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, without following links."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if _is_own(Path(place) / name, left_out):
                yield Path(place) / name


def _is_own(file: Path, left_out: list[str]) -> bool:
    """Tell whether a file is there and is no link."""
    if file.is_symlink():
        left_out.append(f"{file.name}: a link, not followed")
        return False
    return file.is_file()


def _end_of(file: Path, most: int) -> tuple[str, str]:
    """Return the end of a file as text, from the begin of a line, and what was cut off."""
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        skipped = max(0, size - most)
        opened.seek(skipped)
        data = opened.read(most)
    if skipped:
        cut = data.find(b"\n") + 1
        data, skipped = data[cut:], skipped + cut
    note = f"the last {len(data)} of {size} bytes" if skipped else ""
    return data.decode("utf-8", errors="replace"), note
