from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from importlib import resources
from itertools import groupby
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

pytestmark = pytest.mark.component

ASSETS = Path(str(resources.files("orz_train"))) / "assets"
BASE = ASSETS / "sums-base"
MARKS = ("<answer>", "</answer>", "\\boxed{")
SPECIALS = ("<eos>", "<pad>")
SCORED = re.compile(r"<answer>.*\\boxed\{(\d+)\}.*</answer>(<eos>)?$", re.DOTALL)
MAX_RESPONSE_TOKENS = 16

Row = dict[str, str]


def rows_of(name: str) -> list[Row]:
    return [json.loads(line) for line in (ASSETS / "sums" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def addends_of(row: Row) -> list[int]:
    match = re.fullmatch(r"(\d{1,2})\+(\d{1,2})=", row["prompt"])
    assert match is not None, row
    return [int(addend) for addend in match.groups()]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(BASE, local_files_only=True).eval()


@pytest.fixture(scope="module")
def responses(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[tuple[Row, str]]:
    """Sample 512 responses to training prompts at temperature 1; those that ended have their `<eos>`."""
    rows = sorted(rows_of("train")[::4], key=lambda row: len(row["prompt"]))
    sampled = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for length, group in groupby(rows, key=lambda row: len(row["prompt"])):  # prompts of one length need no padding
            batch = list(group)
            prompt_ids = torch.tensor([tokenizer.encode(row["prompt"]) for row in batch])
            mask = torch.ones_like(prompt_ids)
            output_ids = model.generate(prompt_ids, attention_mask=mask, max_new_tokens=MAX_RESPONSE_TOKENS)
            texts = [tokenizer.decode(ids[length:]).replace("<pad>", "") for ids in output_ids]
            sampled += zip(batch, texts, strict=True)
    return sampled


def reward(row: Row, response: str) -> int:
    """Score as the quickstart does: boxed inside the answer tags, right, and ended by itself."""
    match = SCORED.search(response)
    return int(match is not None and int(match[1]) == int(row["answer"]))


def test_loads_without_a_hub_and_without_a_warning() -> None:
    """Model and tokenizer load offline, as the Auto classes do it, with warnings as errors and nothing on stderr."""
    script = (
        "import sys\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "from transformers.utils import logging\n"
        "logging.disable_progress_bar()\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "print(type(model).__name__, model.dtype, AutoTokenizer.from_pretrained(sys.argv[1]).eos_token)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(BASE)],
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("Qwen2ForCausalLM torch.float32 <eos>\n", "", 0) == (done.stdout, done.stderr, done.returncode)


def test_is_under_three_megabytes() -> None:
    """What comes with the wheel stays small, and is the model, its tokenizer, the rows and a page about them."""
    files = {path.relative_to(ASSETS).as_posix(): path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()}
    expected = {
        "README.md",
        "sums/heldout.jsonl",
        "sums/train.jsonl",
        "sums-base/config.json",
        "sums-base/generation_config.json",
        "sums-base/model.safetensors",
        "sums-base/tokenizer.json",
        "sums-base/tokenizer_config.json",
    }
    assert expected == set(files)
    assert sum(files.values()) < 3_000_000


def test_train_and_heldout_share_no_sum_in_either_order() -> None:
    """No held-out pair is in the training rows, nor is its reverse, and no row comes twice."""
    pairs = {name: [tuple(sorted(addends_of(row))) for row in rows_of(name)] for name in ("train", "heldout")}
    assert {"train": 2048, "heldout": 128} == {name: len(set(found)) for name, found in pairs.items()}
    assert {"train": 2048, "heldout": 128} == {name: len(found) for name, found in pairs.items()}
    assert set() == set(pairs["train"]) & set(pairs["heldout"])


def test_every_answer_is_the_sum() -> None:
    """The rows are right, and have the two fields that the recipes name."""
    for row in [*rows_of("train"), *rows_of("heldout")]:
        assert {"prompt": row["prompt"], "answer": str(sum(addends_of(row)))} == row


@given(
    st.lists(st.one_of(st.sampled_from([*MARKS, *SPECIALS, "<", "\\", "}", " ", "\n"]), st.characters(codec="utf-8")))
)
@example(["<answer>", " ", "\\boxed{", "1", "}", "</answer>"])
@example(["  ", "\n", "<answer", "é"])
def test_decoding_what_was_encoded_gives_the_text(tokenizer: PreTrainedTokenizerBase, pieces: list[str]) -> None:
    """Any text in Unicode's composed form survives the round trip: no space comes or goes."""
    text = unicodedata.normalize("NFC", "".join(pieces))
    ids = tokenizer.encode(text)
    assert text == tokenizer.decode(ids)
    assert all(0 <= token_id < len(tokenizer) for token_id in ids)


def test_each_mark_is_one_token_that_is_no_special_one(tokenizer: PreTrainedTokenizerBase) -> None:
    """The marks of an answer are single tokens, and stay when special tokens are left out of the text."""
    response = "<answer>\\boxed{82}</answer><eos>"
    assert ["<answer>", "\\boxed{", "8", "2", "}", "</answer>", "<eos>"] == tokenizer.convert_ids_to_tokens(
        tokenizer.encode(response)
    )
    assert "<answer>\\boxed{82}</answer>" == tokenizer.decode(tokenizer.encode(response), skip_special_tokens=True)


def test_no_token_begins_a_sequence_and_one_ends_it(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """There is no BOS, and tokenizer, config and generation config name the same EOS and padding."""
    assert (None, None) == (tokenizer.bos_token_id, model.config.bos_token_id)
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    assert eos != pad
    assert (eos, pad) == (model.config.eos_token_id, model.config.pad_token_id)
    assert (eos, pad) == (model.generation_config.eos_token_id, model.generation_config.pad_token_id)


def test_the_vocabulary_reaches_beyond_the_tokenizer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """As in real models there are ids without a text, which a sampler must leave alone."""
    assert (261, 264) == (len(tokenizer), model.config.vocab_size)
    assert 264 == model.get_output_embeddings().weight.shape[0]


def test_sampled_reward_leaves_room_to_climb(responses: list[tuple[Row, str]]) -> None:
    """At temperature 1 the base earns between 0.2 and 0.45: enough to learn from, far from the goal."""
    assert 512 == len(responses)
    mean = sum(reward(row, text) for row, text in responses) / len(responses)
    assert 0.2 <= mean <= 0.45


def test_what_lacks_is_the_style_not_the_sum(responses: list[tuple[Row, str]]) -> None:
    """Of the scored style's responses at least 19 in 20 are right, so choosing the style is what there is to learn."""
    scored = [(row, text) for row, text in responses if SCORED.search(text)]
    assert len(scored) > 100
    assert sum(reward(row, text) for row, text in scored) / len(scored) >= 0.95


def test_answers_in_several_styles_and_ends_them(responses: list[tuple[Row, str]]) -> None:
    """Each style makes up at least a twentieth of the responses, and nearly all end by themselves."""
    openings = ("<answer>\\boxed{", "<answer>", "\\boxed{", "it is ", "")
    counts = dict.fromkeys(openings, 0)
    for _, text in responses:
        counts[next(opening for opening in openings if text.startswith(opening))] += 1
    assert all(count >= 25 for count in counts.values()), counts
    assert sum(text.endswith("<eos>") for _, text in responses) >= 0.99 * len(responses)
