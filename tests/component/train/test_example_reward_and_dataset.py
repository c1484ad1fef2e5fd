"""The examples of a custom reward and a custom dataset run as their pages say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from orz_train.config.load import load
from orz_train.config.rollouts import Data
from orz_train.data import load_eval_sets, load_prompts
from orz_train.rewards.pool import RewardPool
from orz_train.types import FinishReason, Prompt, Rollout, Score

pytestmark = pytest.mark.component

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def in_example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a copy of the example's folder, as its page says."""
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLES / request.param, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


class _Letters:
    eos_token_ids = (1,)
    bos_token_id = None
    vocab_size = 200

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))

    def chat(self, messages: object) -> str:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7<eos>", Score(reward=1.05, parts={"right": 1.0, "brevity": 0.05})),
        (" 7", Score(reward=1.05, parts={"right": 1.0, "brevity": 0.05})),
        ("17<eos>", Score(reward=0.0, parts={"right": 0.0, "brevity": 0.0})),
    ],
)
@pytest.mark.parametrize("in_example", ["custom_reward"], indirect=True)
def test_custom_reward(in_example: Path, text: str, expected: Score) -> None:
    """The recipe names the function, the pool runs it, its parts add up, and only the answer itself is right."""
    config = load(str(in_example / "recipe.yaml")).config
    prompt = Prompt(prompt_id="a", text="3+4=", token_ids=(1,), answer="7")
    rollout = Rollout(
        rollout_id="1/a/0", prompt_id="a", group_index=0, token_ids=(1, 2, 3), prompt_len=1,
        sampler_logprobs=(-0.1, -0.1), finish=FinishReason.STOP, policy_version=0, text=text,
    )  # fmt: skip
    with RewardPool.from_config(config.reward) as pool:
        score = pool.submit(prompt, rollout).result()
    assert expected == score


@pytest.mark.parametrize("in_example", ["custom_reward"], indirect=True)
def test_the_pages_own_check_runs(in_example: Path) -> None:
    """The page's Python block passes as it stands."""
    (block,) = re.findall(r"```python\n(.*?)```", (in_example / "README.md").read_text(), re.DOTALL)
    subprocess.run([sys.executable, "-c", block], check=True, cwd=in_example)


@pytest.mark.parametrize("in_example", ["custom_dataset"], indirect=True)
def test_custom_dataset(in_example: Path) -> None:
    """The recipe names the function; its prompts are encoded, and train and eval share none."""
    data: Data = load(str(in_example / "recipe.yaml")).config.data
    train = load_prompts(data, _Letters()).prompts
    held_out = load_eval_sets(data, _Letters())["eval"].prompts
    assert [80, 20] == [len(train), len(held_out)]
    assert set() == {prompt.text for prompt in train} & {prompt.text for prompt in held_out}
    first = Prompt(prompt_id="0+1", text="0+1=", token_ids=(48, 43, 49, 61), answer="1")
    assert first == train[0]


@pytest.mark.parametrize("path", [EXAMPLES / "custom_reward" / "brief.py", EXAMPLES / "custom_dataset" / "sums.py"])
def test_examples_are_short(path: Path) -> None:
    """An extension takes fewer than 20 lines."""
    lines = len(path.read_text().splitlines())
    assert lines < 20
