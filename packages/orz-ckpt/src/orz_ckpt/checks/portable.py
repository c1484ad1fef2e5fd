"""Has every file a name that a manifest can state, and every system takes?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import CkptError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.manifest import UnsafePathError, check_path
from orz_ckpt.quoting import brief
from orz_ckpt.report.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_ALLOWED: Final = "printable UTF-8 without backslash and without a drive such as C:"
_MAX_NAMED: Final = 3


def check_names(folder: Path, names: Iterable[str]) -> Iterator[CkptFinding]:
    """Say which names no manifest can state.

    Args:
        folder: where the files lie.
        names: of the files, relative to it, `/` between parts.
    """
    odd = _odd(names)
    if odd:
        message = f"no manifest can name {_named(odd)}: expected {_ALLOWED}"
        yield finding("name_not_portable", message, remedy="rename it, or remove it if nothing needs it", path=folder)


def require_names(folder: Path, names: Iterable[str]) -> None:
    """Check that a manifest of `folder` can state all names; see `check_names`.

    Raises:
        CkptError: it cannot.
    """
    odd = _odd(names)
    if odd:
        raise CkptError(
            f"{folder}: a manifest cannot name {_named(odd)}: expected {_ALLOWED}; nothing was written",
            remedy="rename it, or remove it if nothing needs it; then give this command again",
        )


def _odd(names: Iterable[str]) -> list[str]:
    return [name for name in names if not _fits(name)]


def _fits(name: str) -> bool:
    try:
        check_path(name)
    except UnsafePathError:
        return False
    return True


def _named(odd: list[str]) -> str:
    shown = ", ".join(brief(name) for name in odd[:_MAX_NAMED])
    return f"{count(len(odd), 'file')} here, {shown}{', ...' if len(odd) > _MAX_NAMED else ''}"
