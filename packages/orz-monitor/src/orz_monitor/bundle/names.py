"""Names of settings whose values are secret; `tokens` are counted, and `hf_tokens` are kept secret."""

from __future__ import annotations

import re
from typing import Final

_OF_TOKENS: Final = (
    *("access", "auth", "refresh", "id", "session", "hf", "hub", "bearer", "api", "bot"),
    *("github", "gitlab", "wandb", "slack", "account"),
)
_OF_KEYS: Final = (
    r"(?:account|client|deploy|encryption|hf|license|master|openai|private|service|shared|signing|ssh|wandb)"
)
SECRET_NAME: Final = (
    r"[A-Za-z0-9]{0,40}(?:passwd|passwords?|passphrases?)|(?-i:[A-Z0-9]{1,40}PASS|(?<=[_.-])PASS|(?<=[_.-])KEYS?)"
    r"|(?:admin|cert|db|database|ftp|http|key|login|mail|mysql|postgres|redis|root|smtp|ssh|sudo|user)[_-]?pass"
    rf"|api[ _-]?keys?|access[_-]?keys?(?:[_-]?id)?|{_OF_KEYS}[ _-]?keys?|secret(?:[_-]\w{{1,40}}|keys?|s)?|pwd"
    rf"|(?:{'|'.join(_OF_TOKENS)})[_-]?tokens?|token"
    r"|credentials?|authorization|cookie|set-cookie|session[_-]?id|webhook(?:[_-]?url)?|connection[_-]?string|dsn"
)
"""A regular expression of the end of such a name."""
_NOT_SECRET: Final = re.compile(
    r"(?:pad|eos|bos|unk|sep|cls|mask|stop|end|start|special|next|per|image|think|first|last|each|by|user|assistant)"
    r"[_.-]token$",
    re.IGNORECASE,
)
"""Names that end in `token` and mean a token of text."""
_SIGNS: Final = (
    *("key", "secret", "pass", "pwd", "token", "credential", "authorization", "cookie", "session"),
    *("webhook", "connection", "dsn"),
)
"""Parts of the names, one of which a line must hold."""
_PLURALS: Final = tuple(f"{of}{between}tokens" for of in _OF_TOKENS for between in ("_", "-", ""))


def may_name_a_secret(line: str) -> bool:
    """Tell whether a line may hold such a name; most hold none, or speak of `tokens` that are counted."""
    lowered = line.lower()
    counted = lowered.replace("tokens", "") if "tokens" in lowered else lowered
    return any(sign in counted for sign in _SIGNS) or (
        counted is not lowered and any(plural in lowered for plural in _PLURALS)
    )


def names_a_secret(name: str) -> bool:
    """Tell whether what looks like such a name is one, and no token of text such as `pad_token`."""
    return not _NOT_SECRET.search(name)
