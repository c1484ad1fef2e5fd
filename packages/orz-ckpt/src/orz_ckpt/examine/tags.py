"""The other checkpoints in a folder of DeepSpeed, beside the tag that was read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from orz_ckpt.checks.latest import behind
from orz_ckpt.checks.links import boundary, escape
from orz_ckpt.checks.torch_files import is_torch_file
from orz_ckpt.errors import EscapeError, FormatError, HostileError
from orz_ckpt.findings import CkptFinding, finding, milder, of_error
from orz_ckpt.formats import torch_file
from orz_ckpt.formats.alike import Alike
from orz_ckpt.quoting import brief, shell_path, shell_word
from orz_ckpt.readers.deepspeed import names, tags
from orz_ckpt.readers.deepspeed.folder import newest_complete
from orz_ckpt.report.words import count
from orz_ckpt.sources import numbered_steps
from orz_ckpt.steps import around_step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from orz_ckpt.tensors.source import Source


_MAX_NAMED: Final = 3


def check_tags(
    source: Source,
    *,
    sound: bool,
    asked: bool = False,
    examined: Collection[Path] = (),
    inert: frozenset[str] = frozenset(),
) -> Iterator[CkptFinding]:
    """Compare the tag that was read with the others beside it.

    Those are judged by nobody unless they are asked for, but that somebody loads one needs no more than its name. So
    their pickles are looked at, as are those of the older steps of any run; where that cannot be done, nothing is known
    of what they would run, and that is no pass. Of a tag newer than the one that `latest` names it is a warning: what a
    save writes looks as if it was cut off until it is done.

    Args:
        source: what was read; where no tag was, the pickles of all are looked at.
        sound: whether its reader found no error.
        asked: whether this very tag was asked for: then the others are not looked at.
        examined: files that are looked at anyway.
        inert: names of pickle globals that may stand for objects that are never made.

    Raises:
        OSError: a folder cannot be listed.
    """
    here, latest = _tag_below(source), source.path / tags.LATEST_NAME
    if "tag" not in source.facts:
        yield from check_all_tags(source.path, examined, inert)
    if not here:
        return
    present = tags.tags(source.path)
    empty = [step for step in numbered_steps(source.path) if around_step(step.name) == around_step(here)]
    later = sorted({*present, *empty}, key=lambda tag: tags.number(tag.name))
    newer = [tag.name for tag in later if tags.number(tag.name) > tags.number(here) >= 0]
    newer = newer if _names(latest, here) else []  # whoever asks for an older one knows
    if newer:
        yield behind(latest, here, newer)
    whole = None if sound else newest_complete([tag for tag in present if tag.name != here], inert=inert)
    if whole is not None:
        message = f"another tag looks complete: {whole.name}"
        yield finding("newest_good", message, remedy=_verify(source.path, whole.name), path=whole)
    others = [tag for tag in present if tag.name != here and not tag.is_symlink()]  # links: names of what is elsewhere
    if asked:
        return
    unread = set()
    for tag in others:
        for found in _pickles(tag, boundary(source.path), examined, inert, alone=_verify(source.path, here)):
            unread |= {tag} if found.code == "tag_not_read" else set()
            yield _perhaps_saving(found, source.path, tag.name) if tag.name in newer else found
    others = [tag for tag in others if tag not in unread]
    if others:
        named = ", ".join(brief(tag.name) for tag in reversed(others[-_MAX_NAMED:]))
        named += ", ..." if len(others) > _MAX_NAMED else ""
        beside = f"{count(len(others), 'tag')} beside {brief(here)}"
        message = f"not judged, but for what their pickles would call: {beside}: {named}"
        remedy = _verify(source.path, (whole or others[-1]).name)
        yield finding("tags_not_judged", message, remedy=remedy, path=source.path)


def check_all_tags(path: Path, examined: Collection[Path], inert: frozenset[str]) -> Iterator[CkptFinding]:
    """Look at the pickles of all tags in a folder of which none was read: any may be loaded by its name.

    Args:
        path: the folder.
        examined: files that are looked at anyway.
        inert: names of pickle globals that may stand for objects that are never made.

    Raises:
        OSError: the folder cannot be listed.
    """
    if not path.is_dir() or names.holds_one(path):
        return
    for tag in tags.tags(path):
        if not tag.is_symlink():
            yield from _pickles(tag, boundary(path), examined, inert)


def _perhaps_saving(found: CkptFinding, path: Path, tag: str) -> CkptFinding:
    """Say of a tag newer than the latest that a save to it may be going on: nobody is to remove what that writes.

    Args:
        found: of that tag; what would run code is returned as it is.
        path: the folder of the tags.
        tag: its name.
    """
    if found.code != "tag_not_read":
        return found
    message = f"{found.message}; a save to it may be going on, or was cut off"
    remedy = f"verify again when it is done, or that tag alone: {_verify(path, tag)}"
    return milder(replace(found, message=message, remedy=remedy))


class _Unread(NamedTuple):
    """What of a tag could not be looked at."""

    path: Path
    why: str
    remedy: str


def _pickles(
    folder: Path, limit: Path, examined: Collection[Path], inert: frozenset[str], *, alone: str = ""
) -> Iterator[CkptFinding]:
    """Say which files of a tag would run code, and of which that cannot be told: torch loads some that are damaged.

    Args:
        folder: of the tag.
        limit: the folder that its links may not leave.
        examined: files that are looked at anyway.
        inert: names of pickle globals that may stand for objects that are never made.
        alone: the command that judges no tag but the one that was read.
    """
    alike, unread = Alike(), list[_Unread]()
    try:
        files = names.files(folder)
    except FileNotFoundError:
        return  # its trainer removes it just now, say
    except OSError as error:
        files, unread = (), [_refused(folder, error)]
    for file in files:
        try:
            found = None if file in examined else _unread(file, limit, inert, alike)
        except HostileError as error:
            yield of_error(error, file)
            continue
        unread += [found] if found else []
    if unread:
        first, others = unread[0], [brief(entry.path.name) for entry in unread[1:]]
        more = f"; nor of {', '.join(others[:_MAX_NAMED])}" if others else ""
        more += f" and {len(others) - _MAX_NAMED} more" if len(others) > _MAX_NAMED else ""
        message = f"not judged, nor can be told what loading it would run: {first.why}{more}"
        remedy = f"{first.remedy}; without it: {alone}" if alone else first.remedy
        yield finding("tag_not_read", message, remedy=remedy, path=first.path)


def _unread(file: Path, limit: Path, inert: frozenset[str], alike: Alike) -> _Unread | None:
    """Return why a file of a tag could not be looked at, None where it was.

    Raises:
        HostileError: it was, and would run code.
    """
    outside = escape(file, limit)
    if outside is not None:
        return _Unread(file, outside.message, f"put the file itself into {file.parent}, or remove the link")
    try:
        if is_torch_file(file):
            torch_file.load(file, inert=inert, alike=alike)
    except HostileError:
        raise
    except FormatError as error:
        remedy = f"if its save was cut off, remove {file.parent}; else copy or save it again"
        return _Unread(file, error.message.removeprefix(f"{file}: "), remedy)
    except OSError as error:
        removed_just_now = isinstance(error, FileNotFoundError) and not file.is_symlink()
        return None if removed_just_now else _refused(file, error)
    return None


def _refused(path: Path, error: OSError) -> _Unread:
    return _Unread(path, f"cannot be read: {error.strerror or error}", f"check the permissions of {path}, and the disk")


def tag_option(source: Source) -> str:
    """Return ` --tag TAG` where a command that reads the same folder again would take another tag, or none, without it.

    Raises:
        OSError: the folder cannot be listed.
    """
    here, latest = _tag_below(source), source.path / tags.LATEST_NAME
    if not here or _names(latest, here) or (not latest.is_file() and len(tags.tags(source.path)) == 1):
        return ""
    return f" --tag {shell_word(here)}"


def _tag_below(source: Source) -> str:
    """Return the tag that was read; empty where its own folder was given, or the format has none."""
    here = source.facts.get("tag", "")
    return here if here != source.path.name and source.path.is_dir() else ""


def _verify(path: Path, tag: str) -> str:
    return f"orz ckpt verify {shell_path(path)} --tag {shell_word(tag)}"


def _names(latest: Path, tag: str) -> bool:
    """Return whether `latest` is there and names a tag."""
    try:
        return latest.is_file() and tags.read_latest(latest) == tag
    except (FormatError, EscapeError):
        return False
