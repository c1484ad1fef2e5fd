r"""Finds the final answer in a response.

ORZ's rule: the answer stands in `\boxed{}` inside `<answer> </answer>`. Only the response is searched, so an
answer in the prompt never counts.
"""

from __future__ import annotations

import re

_OPEN = "<answer>"
_CLOSE = "</answer>"
_TOKEN = re.compile(r"\\boxed\{|\\.|[{}]", re.DOTALL)


def last_answer_block(response: str) -> str | None:
    """Return what stands in the last closed `<answer>` block, or None.

    The closing tag is often the stop string; it is part of the response all the same. A block that was never
    closed doesn't count, and a stray `</answer>`, in the thinking or at the end, closes nothing.
    """
    start = response.rfind(_OPEN, 0, max(response.rfind(_CLOSE), 0))
    if start < 0:
        return None
    return response[start + len(_OPEN) : response.find(_CLOSE, start)]


def last_boxed(text: str) -> str | None:
    r"""Return what stands in the last `\boxed{...}` whose braces balance, or None; in one pass over the text.

    Escaped braces (`\{`, `\}`) are characters, not groups. Of nested boxes the innermost last one counts.
    """
    found: tuple[int, int] | None = None
    open_groups: list[int | None] = []  # where the content of a box begins, None for other groups
    for token in _TOKEN.finditer(text):
        match token.group():
            case "\\boxed{":
                open_groups.append(token.end())
            case "{":
                open_groups.append(None)
            case "}" if open_groups:
                start = open_groups.pop()
                if start is not None and (found is None or start > found[0]):
                    found = (start, token.start())
    return None if found is None else text[found[0] : found[1]].strip()


def boxed_in_answer(response: str) -> str | None:
    r"""Return the last balanced `\boxed{...}` of the last closed `<answer>` block, or None (ORZ's rule)."""
    block = last_answer_block(response)
    return None if block is None else last_boxed(block)
