"""The shipped reward functions, and finding functions by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orz_train.config.checks import REWARDS
from orz_train.errors import ConfigError
from orz_train.rewards.registry import SHIPPED, load_reward
from orz_train.types import FinishReason, Prompt, Rollout, Score

pytestmark = pytest.mark.unit


def _case(answer: str, response: str, text: str = "What is 3+4?") -> tuple[Prompt, Rollout]:
    prompt = Prompt(prompt_id="train:1", text=text, token_ids=(1, 2), answer=answer)
    rollout = Rollout(
        rollout_id="1/train:1/0", prompt_id="train:1", group_index=0, token_ids=(1, 2, 3), prompt_len=2,
        sampler_logprobs=(-0.1,), finish=FinishReason.STOP, policy_version=0, text=response,
    )  # fmt: skip
    return prompt, rollout


@pytest.mark.parametrize(
    ("expected", "function", "answer", "response"),
    [
        (Score(reward=1.0, facts={"extracted": "7"}), "math", "7", r"</think><answer>\boxed{7}</answer>"),
        (Score(reward=0.0, facts={"extracted": "8"}), "math", "7", r"</think><answer>\boxed{8}</answer>"),
        (Score(reward=0.0), "math", "7", r"\boxed{7}"),
        (Score(reward=0.0), "math", "7", ""),
        (Score(reward=1.0, facts={"extracted": "7"}), "boxed", "7", r"so \boxed{7}."),
        (Score(reward=0.0), "boxed", "7", "so 7."),
        (Score(reward=1.0, facts={"extracted": "7"}), "exact", "7", " 7\n"),
        (Score(reward=1.0, facts={"extracted": "7"}), "exact", " 7", "7<|endoftext|>"),
        (Score(reward=1.0, facts={"extracted": "7"}), "exact", "7", "7 </s><pad>\n<pad>"),
        (Score(reward=1.0, facts={"extracted": "7"}), "exact", "7", "7<｜end▁of▁sentence｜>"),  # noqa: RUF001
        (Score(reward=0.0, facts={"extracted": "7.0"}), "exact", "7", "7.0"),
        (Score(reward=0.0, facts={"extracted": "7</b>"}), "exact", "7", "7</b>"),
    ],
)
def test_shipped_functions(expected: Score, function: str, answer: str, response: str) -> None:
    """Each shipped function scores 1 or 0, and shows what it read."""
    assert expected == load_reward(function)(*_case(answer, response))


@pytest.mark.parametrize("function", ["math", "boxed"])
def test_a_box_in_the_prompt_never_scores(function: str) -> None:
    """Only the response is searched: an answer that the prompt echoes is worth nothing."""
    case = _case("7", "I don't know.", text=r"Write <answer>\boxed{7}</answer>.")
    assert Score(reward=0.0) == load_reward(function)(*case)


@pytest.mark.parametrize("function", sorted(SHIPPED))
def test_a_prompt_without_answer_is_an_error(function: str) -> None:
    """With nothing to compare with there is no verdict, not a wrong answer."""
    with pytest.raises(ValueError, match="prompt train:1 has no answer to compare with"):
        load_reward(function)(*_case(" ", r"<answer>\boxed{7}</answer>"))


def test_a_misspelt_name_gets_the_nearest() -> None:
    """An unknown name is refused with the known ones."""
    with pytest.raises(ConfigError) as caught:
        load_reward("maths")
    assert str(caught.value) == (
        "reward.function: got 'maths', expected one of math, boxed, exact, or module:function\n"
        "  -> did you mean 'math'?"
    )


@pytest.mark.parametrize(
    ("reason", "source", "name"),
    [
        ("there is no module 'no_such_rewards'", "", "no_such_rewards:reward"),
        ("has no 'rewrad'", "def reward(prompt, rollout): return 1.0", "r1_mine:rewrad"),
        ("expected (prompt, rollout)", "def reward(prompt): return 1.0", "r2_mine:reward"),
        ("importing r3_mine failed", "1 / 0", "r3_mine:reward"),
        ("is int, expected a function", "reward = 7", "r4_mine:reward"),
        ("got the class Reward", "class Reward: pass", "r5_mine:Reward"),
    ],
)
def test_a_users_function_is_checked_when_it_is_named(
    reason: str, source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing module or name, a wrong signature, a failing import, what is no function: each has its message."""
    (tmp_path / f"{name.partition(':')[0]}.py").write_text(source) if source else None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigError, match=r"reward\.function") as caught:
        load_reward(name)
    assert reason in str(caught.value)


def test_the_configuration_knows_the_same_names() -> None:
    """A name that passes the check of a configuration is one that can be loaded."""
    assert set(SHIPPED) == set(REWARDS)


def test_rewards_import_no_torch() -> None:
    """Neither the functions nor the pool bring torch into a process, nor does naming a function bring SymPy."""
    code = (
        "import sys; import orz_train.rewards.pool, orz_train.rewards.registry, orz_train.data;"
        "assert 'sympy' not in sys.modules;"
        "from orz_train.rewards.registry import load_reward, SHIPPED; [load_reward(name) for name in SHIPPED];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
