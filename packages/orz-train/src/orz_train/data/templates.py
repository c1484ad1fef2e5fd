r"""Turns a problem into the text that the policy reads.

The R1-Zero text is a data format: models trained by Open-Reasoner-Zero answer in the shape it asks for, so every
letter counts. It is the template of the paper (arXiv 2503.24290, Table 1) with the instruction that ORZ's code
puts before the problem. The `{bos}` that ORZ writes in front is added when the prompt is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orz_train.data.rows import BadRowError, Message
from orz_train.errors import ConfigError

_PLACE = "{problem}"

R1_ZERO = (
    "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. "
    "The Assistant first thinks about the reasoning process in the mind and then provides the User with the answer. "
    "The reasoning process is enclosed within <think> </think> and answer is enclosed within <answer> </answer> tags, "
    "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
    "User: You must put your answer inside <answer> </answer> tags, i.e., <answer> answer here </answer>. "
    "And your final answer will be extracted automatically by the \\boxed{} tag.\n"
    "This is the problem:\n"
    "{problem}\n"
    "Assistant: <think>"
)
"""ORZ's template, for training and evaluation alike; the response begins inside `<think>`."""


_NAMED = {"r1-zero": R1_ZERO, "plain": _PLACE}


class RendersChat(Protocol):
    """What the chat template needs of a tokenizer."""

    def chat(self, messages: Sequence[Message]) -> str:
        """Render messages with the chat template, ready for the response."""
        ...


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt template: `r1-zero`, `chat`, `plain`, or a text with `{problem}`.

    Example:
        >>> Template.named("Q: {problem} A:").render("2+2", tokenizer)
        'Q: 2+2 A:'
    """

    text: str | None
    """The text around `{problem}`; None for the tokenizer's chat template."""

    @classmethod
    def named(cls, name: str) -> Template:
        """Look up a template by the value of `data.template`.

        Raises:
            ConfigError: it is neither a known name nor a text with `{problem}`.
        """
        if name == "chat":
            return cls(None)
        text = _NAMED.get(name, name)
        if _PLACE not in text:
            known = ", ".join(["chat", *_NAMED])
            raise ConfigError(
                f"data.template: got {name!r}, expected one of {known}, or a text with {_PLACE}",
                remedy=f"mark the problem's place with {_PLACE}; other braces stay as they are",
            )
        return cls(text)

    def render(self, problem: str | Sequence[Message], tokenizer: RendersChat) -> str:
        """Put a problem, or chat messages, into the template.

        Raises:
            BadRowError: several messages meet a template that has room for one problem.
        """
        if self.text is None:
            return tokenizer.chat([{"role": "user", "content": problem}] if isinstance(problem, str) else problem)
        return self.text.replace(_PLACE, problem if isinstance(problem, str) else _only_content(problem))


def _only_content(messages: Sequence[Message]) -> str:
    if len(messages) != 1:
        roles = ", ".join(message["role"] for message in messages)
        raise BadRowError(f"got {len(messages)} messages ({roles}); only data.template: chat takes more than one")
    return messages[0]["content"]
