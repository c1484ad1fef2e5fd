"""What a user gave: a path of this machine, or a URL? No secret of a URL is ever shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from orz_cli.errors import UsageError

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.*", re.DOTALL)


def is_url(text: str) -> bool:
    """Return whether `text` is a URL and no path of this machine; `file://` is a URL, too."""
    return _URL.fullmatch(text) is not None or "::" in text


def local_path(text: str) -> Path | None:
    """Return the path that `text` names on this machine, None where it is on another."""
    if not is_url(text):
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme != "file" or "::" in text:
        return None
    if parts.netloc not in {"", "localhost"}:
        raise UsageError(
            f"{redacted(text)}: file:// has three slashes before a path", remedy=f"file:///{parts.netloc}..."
        )
    return Path(unquote(parts.path))


def redacted(url: str) -> str:
    """Return `url` without what may be a secret: user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    hidden = "***@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{hidden}{host}{parts.path}{'?***' if parts.query or parts.fragment else ''}"


def path_here(text: str) -> Path:
    """Return the path that a command which works on this machine's disks was given.

    Raises:
        UsageError: it is empty, or names something on another machine.
    """
    if not text or "\0" in text:
        raise UsageError("a path is empty", remedy="give a path; . is the current folder")
    path = local_path(text)
    if path is None:
        raise UsageError(
            f"{redacted(text)} is a URL, and this command works on folders of this machine",
            remedy="`orz ckpt copy SRC DEST` brings it here, or takes it there",
        )
    return path
