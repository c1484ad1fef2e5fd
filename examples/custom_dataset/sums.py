"""A dataset of your own: sums of two digits, one in five of them held out."""

from __future__ import annotations

from collections.abc import Iterator

from orz_train.types import Prompt


def rows(split: str) -> Iterator[Prompt]:
    """Yield the prompts of `train` or `eval`; they share no sum."""
    for number in range(100):
        a, b = divmod(number, 10)
        if (number % 5 == 0) == (split == "eval"):
            yield Prompt(prompt_id=f"{a}+{b}", text=f"{a}+{b}=", token_ids=(), answer=str(a + b))
