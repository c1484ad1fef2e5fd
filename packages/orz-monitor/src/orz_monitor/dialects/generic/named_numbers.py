"""Numbers in a line of text, each with the name that it has there: `iteration 3 | loss 0.083 | took 2.5 seconds`.

A number is called by the words before it, up to a comma, a stroke, a bracket or another number. Where there are none,
it is called by the word behind it, as in `512 tokens`; where there is none either, it has no name. `nan` and `inf` are
numbers where they stand as ones (`loss: nan`), and else words of a name: `loss nan count: 0`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from orz_monitor.dialects.dicts import dict_and_end
from orz_monitor.numbers import number

_NUMBER: Final = (
    rb"(?<![\w.])[-+]?\.?\d(?:[\w.%]|[:/+-](?=[\w.])(?![A-Za-z_]\w{0,60} ?[:=])|,(?=\d))*+"
    rb"|[-+]?(?:nan|inf(?:inity)?)(?![\w.@&-]|/(?:nan|inf))"
)
_WRAPPED: Final = rb"(?:np|numpy|torch|jnp)?\.?(?:float|u?int|bool|tensor|array)\w{0,8}\([^()\n]{1,80}\)"
_WORD: Final = rb"[A-Za-z_][\w/.@&-]*+(?: ?\([A-Za-z\d][^()\n]{0,20}\)(?=['\"]?[ \t]*+[:=]))?"
_TOKEN: Final = re.compile(
    rb"(?P<wrapped>" + _WRAPPED + rb")|(?P<number>" + _NUMBER + rb")|(?P<word>" + _WORD + rb")"
    rb"|(?P<mark>->|[:=])|(?P<divider>[?&][\w.-]{1,40}=[^\s&\"']*+|[,;|{}()\[\]\t\r]| - |[^\x00-\x7f]++)",
    re.IGNORECASE,
)
_OF: Final = re.compile(rb"(\d{1,15})/(\d{1,15})$")
_ANY_NUMBER: Final = re.compile(_NUMBER, re.IGNORECASE)
_DICTIONARY: Final = re.compile(rb"\{\s{0,8}['\"]")
_COMMA_IN_VALUE: Final = re.compile(rb"['\"]: ?[-+]?\d{1,20},\d")
"""A decimal comma, which ends a value in dictionaries."""
_NOT_FINITE: Final = re.compile(rb"[-+]?[in]", re.IGNORECASE)
"""What a token begins with that is `nan` or `inf`."""
_COUNTED: Final = re.compile(
    rb"(?:counts?|grads?|gradients?|iterations?|iters?|steps|updates|batches|samples|tokens|values|losses|skipped|total)$",
    re.IGNORECASE,
)
"""What follows `nan` where it says how often there was one: `loss nan count 0`."""
_MOST_WORDS: Final = 4
UNNAMED: Final = b"unnamed"
"""What a number is called that has no name."""


class NamedNumber(NamedTuple):
    """A printed number and its name.

    Attributes:
        key: its name; of `3/100` the second number has `/of` behind that of the first.
        token: as printed, with its unit.
        is_marked: whether a colon or an equals sign stands between both.
        is_of_things: whether a word that is no unit ends what is said of it: `reward: 3 apples`.
    """

    key: bytes
    token: bytes
    is_marked: bool = False
    is_of_things: bool = False


def named_numbers(body: bytes) -> list[NamedNumber]:
    """Return every number of a line; a name that comes again has `/1`, `/2`, ... behind it.

    Dates, versions and addresses without a name are left out, and what an address asks for: `/find?step=3`. It takes
    time in proportion to the length of the line.

    Example:
        >>> found = named_numbers(b"Step 3/9: loss 0.13, mean kl=0.02 (took 2 s) 7 files")
        >>> b" ".join(one.key for one in found), [one.token for one in found]
        (b'Step Step/of loss kl took files', [b'3', b'9', b'0.13', b'0.02', b'2 s', b'7'])
    """
    found: list[NamedNumber] = []
    start, match = 0, _DICTIONARY.search(body)
    if match is not None and _COMMA_IN_VALUE.search(body, match.start()):
        match = None
    while match is not None:
        found += _of_text(body[start : match.start()])
        pairs, start = dict_and_end(body, match.start())
        found += _of_dictionary(pairs)
        match = _DICTIONARY.search(body, start)
    return _told_apart([*found, *_of_text(body[start:])])


def _of_dictionary(pairs: list[tuple[bytes, bytes]]) -> list[NamedNumber]:
    """Return the numbers of a dictionary, those of a list one by one, and what should be one: `None`, `7B`."""
    found: list[NamedNumber] = []
    for key, value in pairs:
        if value.startswith(b"["):
            found += [
                NamedNumber(key, token, is_marked=True) for token in _ANY_NUMBER.findall(value.replace(b",", b" "))
            ]
        elif number(value) is not None or value in {b"None", b"null"} or any(map(b"0123456789".__contains__, value)):
            found.append(NamedNumber(key, value, is_marked=True))
    return found


class _Reader:
    """Goes through the tokens of a text."""

    def __init__(self, body: bytes) -> None:
        self.found: list[NamedNumber] = []
        self._body = body
        self._tokens = [(match.lastgroup or "", match) for match in _TOKEN.finditer(body)]
        self._words: list[bytes] = []
        self._mark = b""
        self._list = b""
        self._before = b""
        self._aside = b""

    def read(self) -> list[NamedNumber]:
        """Return what was found."""
        skip = -1
        for at, (kind, match) in enumerate(self._tokens):
            if at == skip:
                continue
            if kind == "word" or (kind == "number" and _NOT_FINITE.match(match[0]) and not self._is_value(at)):
                self._words = [match[0]] if self._mark else [*self._words[1 - _MOST_WORDS :], match[0]]
                self._mark = self._before = self._aside = b""
            elif kind == "mark":
                self._mark = match[0] if self._words else b""
            elif kind == "divider":
                self._divide(match[0], at)
            else:
                skip = at + self._take(match[0], at)
        return self.found

    def _is_value(self, at: int) -> bool:
        """Tell whether `nan` or `inf` stands as a number: behind a colon or an equals sign, or as the end of a field.

        Where names and numbers follow each other without a colon, so does the next name: `loss nan reward 0.5`.
        """
        following = self._kind(at + 1)
        if self._mark:
            return following != "mark"
        if following in {"", "divider"}:
            return True
        if not self._words or following != "word" or self._body.startswith(b"/", self._tokens[at][1].end()):
            return False
        end = next((end for end in range(at + 1, at + 2 + _MOST_WORDS) if self._kind(end) != "word"), at)
        return self._kind(end) in {"number", "wrapped"} and not _COUNTED.match(self._tokens[at + 1][1][0])

    def _divide(self, divider: bytes, at: int) -> None:
        """Forget the name, but for that of a list, and that of a cell with a number in the next one."""
        if divider in {b"[", b"("} and self._mark:
            self._list = self._name(at)
        elif divider in {b"]", b")", b"|", b"}"}:
            self._list = b""
        self._aside = self._before if divider == b"(" else b""
        self._before = b""
        if not (divider == b"|" and self._kind(at + 1) == "number"):
            self._words = []
        self._mark = b""

    def _take(self, token: bytes, at: int) -> int:
        """Take a number; returns 1 where the next token belongs to it, and else 0."""
        token = token.rstrip(b".,")
        if b"," in token and self._body[(begin := self._tokens[at][1].start()) - 1 : begin] in {b"[", b"("}:
            token = b"[" + token  # several numbers
        key, used = self._name(at), 0
        follows = self._word_behind(at)
        if key and follows and number(token + b" " + follows) is not None:
            token, used = token + b" " + follows, 1
        elif not key and self._aside:
            key = UNNAMED
        elif not key and self._list:
            key = self._list
        elif not key and follows and number(token) is not None:
            key, used = follows, 1
        if not key and (number(token) is not None or _OF.match(token)):
            key = UNNAMED
        if key:
            self._add(key, token, is_of_things=bool(self._mark) and not used and self._ends_in_word(at))
        self._before, self._aside = key, b""
        self._words, self._mark = [], b""
        return used

    def _add(self, key: bytes, token: bytes, *, is_of_things: bool) -> None:
        """Add a number, or both of `3/100`."""
        parts = _OF.match(token)
        if parts is None:
            self.found.append(NamedNumber(key, token, bool(self._mark), is_of_things))
        else:
            self.found += [NamedNumber(key, parts[1], bool(self._mark)), NamedNumber(key + b"/of", parts[2])]

    def _name(self, at: int) -> bytes:
        """Return the words before a token; the last one where an equals sign stands right behind it."""
        if (
            self._mark == b"="
            and self._words
            and self._body[(mark := self._tokens[at - 1][1].start()) - 1 : mark].strip()
        ):
            return self._words[-1]
        return b" ".join(self._words)

    def _word_behind(self, at: int) -> bytes:
        """Return the word behind a number, unless it is the name of another."""
        if self._kind(at + 1) != "word" or self._kind(at + 2) in {"mark", "number", "wrapped"}:
            return b""
        return self._tokens[at + 1][1][0]

    def _ends_in_word(self, at: int) -> bool:
        """Tell whether one word stands behind a number, and then a divider or the end."""
        return self._kind(at + 1) == "word" and self._kind(at + 2) in {"", "divider"}

    def _kind(self, at: int) -> str:
        """Return what a token is; empty behind the last one."""
        return self._tokens[at][0] if at < len(self._tokens) else ""


def _of_text(body: bytes) -> list[NamedNumber]:
    """Return the numbers of a text without a dictionary in it."""
    return _Reader(body).read()


def _told_apart(found: list[NamedNumber]) -> list[NamedNumber]:
    """Number the names that come again."""
    counts: dict[bytes, int] = {}
    apart: list[NamedNumber] = []
    for one in found:
        count = counts.get(one.key, 0)
        counts[one.key] = count + 1
        apart.append(one._replace(key=b"%b/%d" % (one.key, count)) if count else one)
    return apart
