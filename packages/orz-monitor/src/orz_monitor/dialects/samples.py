"""Samples that trainers print among their metrics: what a model was asked, and what it said. Neither is a metric."""

from __future__ import annotations

import re
from typing import Final

_LABEL: Final = re.compile(
    rb"\W{0,8}(?:[A-Za-z]{1,12}[ _]){0,2}"
    rb"(?:responses?|answers?|completions?|prompts?|questions?|predictions?|solutions?|assistant|user)"
    rb"(?: ?\d{1,6})?(?:\]|['\"]?:|>)[ \t]*+(?![-+.\d])",
    re.IGNORECASE,
)
_PROSE: Final = re.compile(
    rb"(?:^|[\s(])(?:is|are|was|be|the|a|an|as|of|like|with|prints?|printed|returns?|gives?|says?|see)"
    rb"[ \t]*+:?[ \t]*+$",
    re.IGNORECASE,
)
"""Words in the middle of a sentence."""


def is_sample(body: bytes) -> bool:
    """Tell whether a line begins with the label of a sample, and not with one that a number follows.

    Example:
        >>> [is_sample(line) for line in (b'response: {"loss": 900}', b"[Answer 3] loss = 3", b"response: 512 tokens")]
        [True, True, False]
    """
    return _LABEL.match(body) is not None


def is_quoted(before: bytes) -> bool:
    """Tell whether what stands before a dictionary makes it one that somebody talks about, and not one that is logged.

    Example:
        >>> [is_quoted(before) for before in (b"Output is ", b"response: ", b"train metrics ", b"9/9 [00:01<00:09]")]
        [True, True, False, False]
    """
    return is_sample(before) or _PROSE.search(before[-64:]) is not None
