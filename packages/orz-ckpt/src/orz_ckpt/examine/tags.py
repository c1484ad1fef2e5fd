"""The other checkpoints in a folder of DeepSpeed, beside the tag that was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.latest import behind
from orz_ckpt.checks.links import boundary, escape
from orz_ckpt.checks.torch_files import is_torch_file
from orz_ckpt.errors import EscapeError, FormatError, HostileError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats import torch_file
from orz_ckpt.formats.alike import Alike
from orz_ckpt.quoting import brief, shell_word
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
    their pickles are looked at, as are those of the older steps of any run.

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
    if newer and _names(latest, here):  # whoever asks for an older one knows
        yield behind(latest, here, newer)
    whole = None if sound else newest_complete([tag for tag in present if tag.name != here], inert=inert)
    if whole is not None:
        message = f"another tag looks complete: {whole.name}"
        yield finding("newest_good", message, remedy=_verify(source, whole), path=whole)
    others = [tag for tag in present if tag.name != here and not tag.is_symlink()]  # links: names of what is elsewhere
    if others and not asked:
        for tag in others:
            yield from _hostile(tag, boundary(source.path), examined, inert)
        named = ", ".join(brief(tag.name) for tag in reversed(others[-_MAX_NAMED:]))
        named += ", ..." if len(others) > _MAX_NAMED else ""
        beside = f"{count(len(others), 'tag')} beside {brief(here)}"
        message = f"not judged, but for what their pickles would call: {beside}: {named}"
        yield finding("tags_not_judged", message, remedy=_verify(source, whole or others[-1]), path=source.path)


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
            yield from _hostile(tag, boundary(path), examined, inert)


def _hostile(folder: Path, limit: Path, examined: Collection[Path], inert: frozenset[str]) -> Iterator[CkptFinding]:
    """Say which files of a tag would run code. What is broken, or lies behind a link out of `limit`, is not told."""
    alike = Alike()
    try:
        files = names.files(folder)
    except OSError:
        return  # its trainer removes it just now, say
    for file in files:
        if file in examined or escape(file, limit) is not None:
            continue
        try:
            if is_torch_file(file):
                torch_file.load(file, inert=inert, alike=alike)
        except HostileError as error:
            message = error.message.removeprefix(f"{file}: ")
            yield finding(error.code, message, remedy=error.remedy, path=file)
        except (FormatError, OSError):
            continue


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


def _verify(source: Source, tag: Path) -> str:
    return f"orz ckpt verify {shell_word(str(source.path))} --tag {shell_word(tag.name)}"


def _names(latest: Path, tag: str) -> bool:
    """Return whether `latest` is there and names a tag."""
    try:
        return latest.is_file() and tags.read_latest(latest) == tag
    except (FormatError, EscapeError):
        return False
