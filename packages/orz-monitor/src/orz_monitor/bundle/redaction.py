"""Leave secrets out of text: what looks like one goes, and what went is counted by kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from orz_monitor.bundle.blocks import secret_lines
from orz_monitor.bundle.names import SECRET_NAME, may_name_a_secret, names_a_secret
from orz_monitor.bundle.shapes import PATTERNS, SIGNS

_NO_SECRET: Final = re.compile(
    r"(?:|null|none|~|true|false|-?\d{1,6}(?:\.\d+)?|<[^>]*>|\$\{?\w+\}?|\*+|[|>][+-]?\d?|[\[{][\d\s,.]*[\]}]?)",
    re.IGNORECASE,
)
"""Values that are none: nothing, a switch, a small number, a place holder, a variable's name."""
_KEYED: Final = re.compile(
    rf"""(?P<key>(?<![A-Za-z0-9])["']?(?:[A-Za-z0-9]{{1,40}}[_.-]){{0,6}}(?:{SECRET_NAME})["']?)"""
    r"""(?P<between>[ \t]{0,8}(?:=>|[=:])[ \t]{0,8}|[ \t]{1,8}(?=Bearer\b))"""
    r"""(?P<value>"(?:[^"\\\n]|\\.){0,4096}"|'(?:[^'\\\n]|\\.){0,4096}'|(?:Bearer|Basic|Token)[ \t]+[^\s,;"']{1,4096}"""
    r"""|\[(?:[^\[\]\n]|\[[^\[\]\n]{0,1024}\]){0,4096}\]?|\{[^{}\n]{0,4096}\}?"""  # lists and mappings
    r"""|[^\s,;}\])"']{1,4096})""",
    re.IGNORECASE,
)
_PAIRED: Final = re.compile(
    rf"""(?<![\w])["']?(?:name|key)["']?[ \t]{{0,8}}[:=][ \t]{{0,8}}["']?(?P<key>(?:[A-Za-z0-9]{{1,40}}[_.-]){{0,6}}"""
    rf"""(?:{SECRET_NAME}))["']?[ \t]{{0,8}},(?P<between>[ \t]{{0,8}}["']?value["']?[ \t]{{0,8}}[:=][ \t]{{0,8}})"""
    r"""(?P<value>"(?:[^"\\\n]|\\.){0,4096}"|'(?:[^'\\\n]|\\.){0,4096}'|[^\s,;}\])"']{1,4096})""",
    re.IGNORECASE,
)
"""A secret beside its name, as containers are given them: `{"name": "HF_TOKEN", "value": "..."}`."""
_LOGIN: Final = re.compile(
    r"""(?P<key>\b(?:login|sshpass)\b[^\n;|&]{0,200}?[ \t]-p)"""
    r"""(?P<between>[ \t=]{1,8})(?P<value>[^\s"'-][^\s"']{0,4096})"""
)
"""`docker login -u name -p password`."""
_FLAG: Final = re.compile(
    rf"""(?P<key>--?(?:[A-Za-z0-9]{{1,40}}[_.-]){{0,6}}(?:{SECRET_NAME}))"""
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
_EMAIL: Final = re.compile(r"\b[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,6}\b")
_KEY_BEGINS: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
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
        in_key, secret = False, secret_lines(lines)
        for number, line in enumerate(lines):
            body = line.rstrip("\r\n")
            end = line[len(body) :]
            if in_key or number in secret:
                in_key = in_key and not _KEY_ENDS.search(body)
                begin = secret.get(number, 0)
                yield body[:begin] + self._mark("line of a secret text") * bool(body.strip()) + end
            elif _KEY_BEGINS.search(body):
                in_key = not _KEY_ENDS.search(body)
                yield self._mark("private key") + end
            else:
                yield self._line(body) + end

    def _line(self, line: str) -> str:
        """Redact one line."""
        if len(line) > _LONGEST_LINE:
            return self._line(line[:_LONGEST_LINE]) + f" [{len(line) - _LONGEST_LINE} characters more left out]"
        return self._without(line, _merged(self._secrets(line)))

    def _secrets(self, line: str) -> Iterator[_Secret]:
        """Find what is secret, all of it in the line as it was: what one pattern marks is no text for another."""
        for kind, pattern in PATTERNS.items():
            if any(sign in line for sign in SIGNS[kind]):
                yield from (_Secret(*found.span(), kind) for found in pattern.finditer(line))
        named = (_KEYED, _PAIRED, _FLAG, _HEADER) if may_name_a_secret(line) else ()
        unnamed = [pattern for pattern, sign in ((_USER, "-u"), (_USER, "-U"), (_LOGIN, " -p")) if sign in line]
        for pattern in (*named, *unnamed):
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
    return not no_secret and names_a_secret(found["key"].strip("\"'-"))


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
