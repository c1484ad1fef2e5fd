"""What a user gave: a path of this machine, or a URL? No secret of a URL is ever shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from orz_cli.errors import UsageError

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.*", re.DOTALL)
_QUERY: Final = re.compile(r"[?#]")


def is_url(text: str) -> bool:
    """Return whether `text` is a URL and no path of this machine; `file://` is a URL, too."""
    return _URL.fullmatch(text) is not None or ("::" in text and "://" in text)


def local_path(text: str) -> Path | None:
    """Return the path that `text` names on this machine, None where it is on another.

    Raises:
        UsageError: it is a URL that names nothing.
    """
    if not is_url(text):
        return Path(text)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise UsageError(f"{redacted(text)}: not a URL: {error}", remedy="give PROTOCOL://PLACE/FOLDER") from error
    if parts.scheme != "file" or "::" in text:
        return None
    if parts.netloc not in {"", "localhost"}:
        raise UsageError(
            f"{redacted(text)}: file:// has three slashes before a path", remedy=f"file:///{parts.netloc}..."
        )
    return Path(unquote(parts.path))


def redacted(url: str) -> str:
    """Return `url` without what may be a secret: user, password, query and fragment."""
    protocol, _, rest = url.partition("://")
    user = user_in(url)
    shown = _QUERY.split(rest.removeprefix(f"{user}@") if user else rest, maxsplit=1)
    return f"{protocol.lower()}://{'***@' if user else ''}{shown[0]}{'?***' if any(shown[1:]) else ''}"


def user_in(url: str) -> str:
    """Return the user, or user and password, that a URL begins with; empty where it has none.

    A secret key may have a `/` in it, before which a URL's host ends: what has a colon counts up to the last `@`.
    """
    rest = url.partition("://")[2]
    user = rest.rpartition("@")[0]
    if ":" in user and not user.startswith("/"):
        return user
    return rest.partition("/")[0].rpartition("@")[0]


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
