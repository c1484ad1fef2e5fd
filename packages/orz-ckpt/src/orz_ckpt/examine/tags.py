"""The other checkpoints in a folder of DeepSpeed, beside the tag that was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.checks.latest import behind
from orz_ckpt.errors import EscapeError, FormatError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.quoting import shell_word
from orz_ckpt.readers.deepspeed import tags
from orz_ckpt.readers.deepspeed.folder import newest_complete
from orz_ckpt.sources import numbered_steps
from orz_ckpt.steps import around_step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orz_ckpt.tensors.source import Source


def check_tags(source: Source, *, sound: bool, inert: frozenset[str] = frozenset()) -> Iterator[CkptFinding]:
    """Compare the tag that was read with the others beside it.

    Args:
        source: what was read.
        sound: whether its reader found no error.
        inert: names of pickle globals that may stand for objects that are never made.

    Raises:
        OSError: a folder cannot be listed.
    """
    here, latest = _tag_below(source), source.path / tags.LATEST_NAME
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
