"""Prompt templates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import pytest

from orz_train.config.checks import TEMPLATES
from orz_train.data.rows import BadRowError
from orz_train.data.templates import R1_ZERO, Template
from orz_train.errors import ConfigError

pytestmark = pytest.mark.unit


class _Chat:
    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        return "".join(f"<|{message['role']}|>{message['content']}" for message in messages) + "<|assistant|>"


def test_r1_zero_is_orz_letter_by_letter() -> None:
    """The digest of ORZ's rendered template with an empty bos; a changed letter changes what its models do."""
    rendered = Template.named("r1-zero").render("What is 3+4?", _Chat())
    assert rendered.startswith("A conversation between User and Assistant. The User asks a question, and the ")
    assert rendered.endswith(
        "And your final answer will be extracted automatically by the \\boxed{} tag.\n"
        "This is the problem:\nWhat is 3+4?\nAssistant: <think>"
    )
    expected = "5048c4d951278e3bb764db2fa8ac1cfa79d7d3003ccc20a147cb582822177fb3"
    assert expected == hashlib.sha256(R1_ZERO.encode()).hexdigest()


@pytest.mark.parametrize(
    ("expected", "template", "problem"),
    [
        ("2+2", "plain", "2+2"),
        ("Q: 2+2\nA:", "Q: {problem}\nA:", "2+2"),
        ("<|user|>2+2<|assistant|>", "chat", "2+2"),
        (r"Box it: \boxed{}. {1,2}", r"Box it: \boxed{}. {problem}", "{1,2}"),
        ("{problem} twice", "{problem}", "{problem} twice"),
        ("{0} %s {x}", "{problem}", "{0} %s {x}"),
        ("2+2", "plain", ({"role": "user", "content": "2+2"},)),
        (
            "<|system|>Be brief.<|user|>2+2<|assistant|>",
            "chat",
            ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2"}),
        ),
    ],
)
def test_render(expected: str, template: str, problem: str | Sequence[Mapping[str, str]]) -> None:
    """The problem takes the place of `{problem}`; other braces, in template and problem, stay as they are."""
    assert expected == Template.named(template).render(problem, _Chat())


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_configuration_knows_the_same_names(name: str) -> None:
    """A name that passes the check of a configuration is a template, with room for the problem."""
    assert "3+4" in Template.named(name).render("3+4", _Chat())


@pytest.mark.parametrize("name", ["r1_zero", "", "Q: {question} A:", "{ problem }"])
def test_a_template_without_a_place_for_the_problem_is_refused(name: str) -> None:
    """A misspelt name can't pass for a text: without the problem every prompt would be the same."""
    with pytest.raises(ConfigError, match=r"expected one of chat, r1-zero, plain, or a text with \{problem\}"):
        Template.named(name)


def test_several_messages_need_the_chat_template() -> None:
    """A conversation is never squeezed into a template for one problem."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2"}]
    with pytest.raises(BadRowError, match=r"got 2 messages \(system, user\); only data\.template: chat takes more"):
        Template.named("plain").render(messages, _Chat())
