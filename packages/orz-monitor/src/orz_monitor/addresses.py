"""What a user names: a path of this machine, or a URL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from orz_cli.errors import UsageError

if TYPE_CHECKING:
    _LocalPath = Path
else:
    _LocalPath = type(Path())  # before Python 3.12 only the path of one system can be derived from

_FILE: Final = re.compile(r"file:(?:(?://(?:localhost)?)?(?=/[^/]))")
_CUT: Final = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.:-]*):/(?=[^/])")


class UrlPath(_LocalPath):
    """A URL where a path is expected. It is shown and opened as it was given: a path would keep one slash of `://`."""

    __slots__ = ("_url",)
    _url: str

    def __str__(self) -> str:
        """Return the URL; what is derived from it, such as its parent, is a path of its parts."""
        return getattr(self, "_url", "") or super().__str__()


def real(path: Path) -> Path:
    """Return where a path leads without links; of links that lead in a circle, as far as that goes."""
    return Path(os.path.realpath(path))


def is_url(path: str | Path) -> bool:
    """Tell whether a path is a URL for fsspec, such as `s3://bucket/train.log`."""
    return "://" in str(path) or ":/" in str(path)[2:]


def located(named: str | Path) -> Path:
    """Return where something lies that a user names: a path of this machine, also for `file://`, or a `UrlPath`.

    A URL that went through `pathlib` gets back the slash that it has lost: `s3:/bucket` was `s3://bucket`.

    Raises:
        UsageError: the name is empty, as a variable of a shell that is not set; it would be the working directory.
    """
    text = str(named)
    if not text:
        raise UsageError("got an empty path, expected a file or a folder", remedy="name the working directory as .")
    if not is_url(text):
        return Path(text)
    local = _FILE.match(text)
    if local is not None:
        return Path(unquote(text[local.end() :]))
    path = UrlPath(text)
    path._url = _CUT.sub(r"\g<scheme>://", text) if "://" not in text else text  # noqa: SLF001 - of its own class, made here
    return path
