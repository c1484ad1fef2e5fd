"""Leave secrets out of text: what looks like one goes, and what went is counted by kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_NAME: Final = (
    r"[A-Za-z0-9]{0,40}(?:passwd|password|passphrase)|(?-i:[A-Z0-9]{1,40}PASS|(?<=[_.-])PASS)"
    r"|(?:admin|cert|db|database|ftp|http|key|login|mail|mysql|postgres|redis|root|smtp|ssh|sudo|user)[_-]?pass"
    r"|api[_-]?key|apikey|access[_-]?key(?:[_-]?id)?|secret(?:[_-]\w{1,40}|key)?|pwd|private[_-]?key"
    r"|(?:access|auth|refresh|id|session|hf|hub|bearer|api|bot|github|gitlab|wandb|slack|account)[_-]?token|token"
    r"|credentials?|authorization|cookie|set-cookie|session[_-]?id|webhook(?:[_-]?url)?|connection[_-]?string|dsn"
)
_NO_SECRET: Final = re.compile(
    r"(?:|null|none|~|true|false|-?\d{1,6}(?:\.\d+)?|<[^>]*>|\$\{?\w+\}?|\*+)", re.IGNORECASE
)
"""Values that are none: nothing, a switch, a small number, a place holder, a variable's name."""
_KEYED: Final = re.compile(
    rf"""(?P<key>(?<![A-Za-z0-9])["']?(?:[A-Za-z0-9]{{1,40}}[_.-]){{0,6}}(?:{_NAME})["']?)"""
    r"""(?P<between>[ \t]{0,8}(?:=>|[=:])[ \t]{0,8}|[ \t]{1,8}(?=Bearer\b))"""
    r"""(?P<value>"(?:[^"\\\n]|\\.){0,4096}"|'(?:[^'\\\n]|\\.){0,4096}'|(?:Bearer|Basic|Token)[ \t]+[^\s,;"']{1,4096}"""
    r"""|[^\s,;}\])"']{1,4096})""",
    re.IGNORECASE,
)
_FLAG: Final = re.compile(
    rf"""(?P<key>--?(?:[A-Za-z0-9]{{1,40}}[_.-]){{0,6}}(?:{_NAME}))"""
    r"""(?P<between>[ \t]{1,8})(?P<value>"(?:[^"\\\n]|\\.){1,4096}"|'(?:[^'\\\n]|\\.){1,4096}'|[^\s-]\S{3,4096})""",
    re.IGNORECASE,
)
"""A secret as the value of an option on a command line."""
_USER: Final = re.compile(
    r"""(?P<key>(?<![\w-])(?:-[uU]|--(?:proxy-)?user)(?:=|["']?,?[ \t]{1,8})["']?[^\s:"'-][^\s:"']{0,256}:)"""
    r"""(?P<between>)(?P<value>[^\s"']{1,4096})"""
)
"""`curl -u name:password`."""
_HEADER: Final = re.compile(
    r"""(?P<key>(?<![A-Za-z0-9])(?:proxy-)?authorization)(?P<between>[ \t]{0,8}:[ \t]{0,8})"""
    r"""(?P<value>(?!(?:Bearer|Basic|Token)\b)(?:(?:AWS4-HMAC-SHA256|Digest|Hawk|OAuth)[ \t][^\n]{1,4096}"""
    r"""|[A-Za-z][\w-]{0,40}[ \t]{1,8}[^"'\n]{1,4096}))""",
    re.IGNORECASE,
)
"""A header with a scheme of more than one word; what follows the scheme is secret up to the quote or the line's end."""
_NOT_SECRET_KEYS: Final = re.compile(
    r"(?:pad|eos|bos|unk|sep|cls|mask|stop|end|start|special|next|per|image|think|first|last|each|by|user|assistant)"
    r"[_.-]token$",
    re.IGNORECASE,
)
"""Names that end in `token` and mean a token of text."""
_PATTERNS: Final = {
    "URL with a password": re.compile(r"(?<=://)[^\s/@:\"']{0,256}:[^\s/@\"']{1,256}(?=@)"),
    "URL with a token": re.compile(r"(?<=://)[^\s/@:\"']{16,256}(?=@)"),
    "signature in a URL": re.compile(
        r"(?<=[?&])(?:sig|signature|token|key|apikey|api_key|access_token|X-Amz-(?:Signature|Credential|Security-Token)"
        r"|X-Goog-Signature|Signature|AWSAccessKeyId)=[^\s&\"'<>]{4,2048}",
        re.IGNORECASE,
    ),
    "token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "token of GitHub": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"),
    "token of GitLab": re.compile(r"\bglpat-[\w-]{16,}"),
    "API key": re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bAIza[\w-]{30,}|\b(?:sk|rk)_live_\w{16,}"),
    "key of AWS": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "token of Slack": re.compile(r"\bxox[abeoprs]-[\w-]{10,}|(?<=hooks\.slack\.com/services/)[\w/]{10,}"),
    "hook of Discord": re.compile(r"(?<=discord\.com/api/webhooks/)\d{5,}/[\w-]{16,}"),
    "key of W&B": re.compile(
        r"(?<!commit )(?<!commit: )(?<!commit/)(?<!sha )\b(?:local-|wandb_v1_)?[0-9a-f]{40}\b|(?<=wandb login )\S{16,}"
    ),
    "password of .netrc": re.compile(r"(?<=password )[0-9a-f]{40}\b"),
    "JSON web token": re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    "public key of a person": re.compile(r"\bssh-(?:rsa|ed25519|dss) [A-Za-z0-9+/=]{40,}"),
}
_SIGNS: Final = {
    "URL with a password": ("://",),
    "URL with a token": ("://",),
    "signature in a URL": ("?", "&"),
    "token of Hugging Face": ("hf_",),
    "token of GitHub": ("gh", "github_pat_"),
    "token of GitLab": ("glpat-",),
    "API key": ("sk-", "pk-", "rk-", "AIza", "_live_"),
    "key of AWS": ("AKIA", "ASIA"),
    "token of Slack": ("xox", "hooks.slack.com"),
    "hook of Discord": ("discord",),
    "key of W&B": ("wandb",),
    "password of .netrc": ("password ",),
    "JSON web token": ("eyJ",),
    "public key of a person": ("ssh-",),
}
"""What a line must hold for a pattern to be tried: most lines of a log hold nothing of it, and pass at once."""
_NAMED: Final = (
    *("key", "secret", "pass", "pwd", "token", "credential", "authorization", "cookie", "session"),
    *("webhook", "connection", "dsn"),
)
"""Parts of the names of secret settings, one of which a line must hold; `tokens` are counted, not kept secret."""
_EMAIL: Final = re.compile(r"\b[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,6}\b")
_KEY_BEGINS: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_BLOCK_BEGINS: Final = re.compile(
    rf"""^[ \t]*(?:- )?["']?[\w.-]{{0,80}}(?:{_NAME})["']?[ \t]*:[ \t]*[|>][+-]?\d?[ \t]*$""", re.IGNORECASE
)
"""A text of many lines in YAML."""
_MARKED: Final = re.compile(r"\[redacted:(?: [\w &-]{1,40}\])?")
"""What stands in the place of a secret, or its first word where a value ends at a space."""
_SCHEME: Final = re.compile(r"^(?:Bearer|Basic|Token)[ \t]+", re.IGNORECASE)
_LONGEST_LINE: Final = 32 << 10


class _Secret(NamedTuple):
    """Where in a line a secret begins and ends, and what it looks like."""

    begin: int
    end: int
    kind: str


@dataclass(kw_only=True, slots=True)
class Redactor:
    """Redacts text line by line, and counts what it left out.

    Attributes:
        emails: whether e-mail addresses are left out, too.
        counts: kind of secret to how many were left out.
    """

    emails: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def redact(self, text: str) -> str:
        """Return text with `[redacted: kind]` where something was left out; lines keep their numbers."""
        return "".join(self._lines(text.splitlines(keepends=True)))

    def _lines(self, lines: list[str]) -> Iterator[str]:
        """Yield lines; those within a private key or a secret text of many lines are left out whole."""
        in_key, indent = False, None
        for line in lines:
            body = line.rstrip("\r\n")
            end = line[len(body) :]
            if indent is not None and body.strip() and _indent(body) <= indent:
                indent = None
            if in_key or indent is not None:
                in_key = in_key and not _KEY_ENDS.search(body)
                yield (self._mark("line of a secret text") if body.strip() else body) + end
            elif _KEY_BEGINS.search(body):
                in_key = not _KEY_ENDS.search(body)
                yield self._mark("private key") + end
            else:
                indent = _indent(body) if _BLOCK_BEGINS.match(body) else None
                yield self._line(body) + end

    def _line(self, line: str) -> str:
        """Redact one line."""
        if len(line) > _LONGEST_LINE:
            return self._line(line[:_LONGEST_LINE]) + f" [{len(line) - _LONGEST_LINE} characters more left out]"
        return self._without(line, _merged(self._secrets(line)))

    def _secrets(self, line: str) -> Iterator[_Secret]:
        """Find what is secret, all of it in the line as it was: what one pattern marks is no text for another."""
        for kind, pattern in _PATTERNS.items():
            if any(sign in line for sign in _SIGNS[kind]):
                yield from (_Secret(*found.span(), kind) for found in pattern.finditer(line))
        lowered = line.lower().replace("tokens", "")
        named = (_KEYED, _FLAG, _HEADER) if any(word in lowered for word in _NAMED) else ()
        for pattern in (*named, *((_USER,) if "-u" in lowered else ())):
            yield from (_value_of(found) for found in pattern.finditer(line) if _is_secret(found))
        if self.emails:
            yield from (_Secret(*found.span(), "e-mail address") for found in _EMAIL.finditer(line))

    def _without(self, line: str, secrets: Sequence[_Secret]) -> str:
        """Return a line with marks in the places of secrets."""
        pieces, end = [], 0
        for secret in secrets:
            pieces += [line[end : secret.begin], self._mark(secret.kind)]
            end = secret.end
        return "".join([*pieces, line[end:]])

    def _mark(self, kind: str) -> str:
        """Count one secret and return what stands in its place."""
        self.counts[kind] += 1
        return f"[redacted: {kind}]"


def _is_secret(found: re.Match[str]) -> bool:
    """Tell whether the value of a name that says it is a secret is one, and still there."""
    bare = _SCHEME.sub("", found["value"].strip("\"'"))
    no_secret = _MARKED.fullmatch(bare) or _NO_SECRET.fullmatch(bare)
    return not no_secret and not _NOT_SECRET_KEYS.search(found["key"].strip("\"'-"))


def _value_of(found: re.Match[str]) -> _Secret:
    """Return the value of such a name, without quotes around it."""
    begin, end = found.span("value")
    value = found["value"]
    opens = value[0] in "\"'"
    closes = opens and len(value) > 1 and value[-1] == value[0]
    return _Secret(begin + opens, end - closes, "value of a secret setting")


def _merged(secrets: Iterable[_Secret]) -> list[_Secret]:
    """Return secrets in order, those that overlap as one: of the kind of the first and widest of them."""
    merged: list[_Secret] = []
    for secret in sorted(secrets, key=lambda secret: (secret.begin, -secret.end)):
        if merged and secret.begin < merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(merged[-1].end, secret.end))
        else:
            merged.append(secret)
    return merged


def _indent(line: str) -> int:
    """Return how far a line is indented."""
    return len(line) - len(line.lstrip(" \t"))
