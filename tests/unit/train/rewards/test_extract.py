"""Extraction of the final answer from a response."""

from __future__ import annotations

import time

import pytest

from orz_train.rewards.math.extract import boxed_in_answer, last_answer_block, last_boxed

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("expected", "response"),
    [
        ("7", r"so it is 7 </think> <answer>\boxed{7}</answer>"),
        ("7", r"<answer> The answer is \boxed{ 7 }. </answer><|endoftext|>"),
        (r"\frac{1}{2}", r"<answer>\boxed{\frac{1}{2}}</answer>"),
        (r"\{1,2\}", r"<answer>\boxed{\{1,2\}}</answer>"),
        (r"\left\{ x \right.", r"<answer>\boxed{\left\{ x \right.}</answer>"),
        ("8", r"<answer>\boxed{7} no, \boxed{8}</answer>"),
        ("8", r"<answer>\boxed{7}</answer> wait <answer>\boxed{8}</answer>"),
        ("7", r"<answer>\boxed{7}</answer> wait <answer>\boxed{8}"),
        ("7", r"<answer>\boxed{7}</answer> and a stray </answer>"),
        ("7", r"I must end with </answer>. </think><answer>\boxed{7}</answer>"),
        ("7", r"<think> the form is <answer> answer here </answer> </think> <answer>\boxed{7}</answer>"),
        ("7", r"<answer> an <answer>\boxed{7}</answer>"),
        ("7", r"<answer>\boxed{7} and \boxed{8</answer>"),
        ("7", r"<answer>\boxed{\boxed{7}}</answer>"),
        ("7", "<answer>\n\\boxed{\n7\n}\n</answer>"),
        ("", r"<answer>\boxed{}</answer>"),
        (None, ""),
        (None, r"\boxed{7}"),
        (None, r"<answer>7</answer>"),
        (None, r"<answer>\boxed{7}"),
        (None, r"\boxed{7}</answer>"),
        (None, r"</answer>\boxed{7}<answer>"),
        (None, r"\boxed{7} </think><answer>7</answer>"),
        (None, r"<answer>7</answer> that is, \boxed{7}"),
        (None, r"<answer>\boxed{7</answer>"),
        (None, r"<answer>\boxed{7\}</answer>"),
        (None, r"<answer>boxed{7}</answer>"),
        (None, r"<ANSWER>\boxed{7}</ANSWER>"),
    ],
)
def test_boxed_in_answer(expected: str | None, response: str) -> None:
    """The last balanced box of the last closed answer block counts, and nothing else does."""
    assert expected == boxed_in_answer(response)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("7", r"\boxed{7}"),
        ("2", r"\boxed{1} } } \boxed{2} }"),
        ("7", r"{ { \boxed{7}"),
        ("a", r"\boxed{a}}"),
        ("x_{1}^{2}", r"\boxed{x_{1}^{2}}"),
        ("b", r"\\boxed{a} \boxed{b}"),
        (None, r"\boxed"),
        (None, r"\boxed 7"),
        (None, r"\fbox{7}"),
    ],
)
def test_last_boxed(expected: str | None, text: str) -> None:
    """Braces are balanced as LaTeX does, and braces outside the box don't disturb."""
    assert expected == last_boxed(text)


def test_last_answer_block_ends_at_its_own_tag() -> None:
    """The block ends at the first closing tag after its opening one."""
    expected = "7"
    assert expected == last_answer_block("<answer>7</answer>, </answer>")


def test_extraction_takes_one_pass() -> None:
    """A response that opens ten thousand boxes and closes none takes a moment, not minutes."""
    start = time.perf_counter()
    assert last_boxed("\\boxed{" * 10_000 + "7") is None
    assert time.perf_counter() - start < 1
