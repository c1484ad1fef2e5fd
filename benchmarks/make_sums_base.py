"""Make the quickstart's base model and its data: a tiny language model that adds, and answers in several styles.

    python benchmarks/make_sums_base.py --out packages/orz-train/src/orz_train/assets

writes the Hugging Face folder `sums-base` and the rows `sums/train.jsonl`, `sums/heldout.jsonl`. All of it is a
function of the constants below: on one machine two runs give the same bytes. It takes six minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

Pair = tuple[int, int]

SEED = 1
MAX_ADDEND = 99
NUM_TRAIN, NUM_HELDOUT = 2048, 128
"""Rows in the files. Pretraining sees every pair but the held-out ones, in both orders."""

STYLES = {
    "{sum}": 0.25,
    "it is {sum}": 0.20,
    "\\boxed{{{sum}}}": 0.25,
    "<answer>\\boxed{{{sum}}}</answer>": 0.15,
    "<answer>{prompt}\\boxed{{{sum}}}</answer>": 0.15,
}
"""How a response reads, and how often. Only those inside <answer> are scored; there are two, so that a policy that
has found them keeps a choice to make, and some entropy."""

MARKS = ("<answer>", "</answer>", "\\boxed{")
"""One token each; all else is a token a byte."""
VOCAB_MULTIPLE = 8
"""The model's vocabulary is padded to it, as real ones are: there are ids that no text encodes to."""
MAX_POSITIONS = 1024

NUM_STEPS, BATCH = 1200, 256
LEARNING_RATE = 2e-3
UNLABELLED = -100
"""Marks tokens without loss: prompts and padding."""


def main() -> None:
    """Write the data, pretrain the model, save it, and say how well it adds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write sums-base/ and sums/ into")
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)  # the order of a sum is part of its value
    torch.manual_seed(SEED)

    heldout, pretraining = split_pairs()
    write_rows(out / "sums" / "heldout.jsonl", heldout)
    write_rows(out / "sums" / "train.jsonl", pretraining[:NUM_TRAIN])
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    pretrain(model, tokenizer, pretraining)
    save(model, tokenizer, out / "sums-base")
    report(model, tokenizer, {"train": pretraining[:NUM_TRAIN], "held-out": heldout})


def split_pairs() -> tuple[list[Pair], list[Pair]]:
    """Split all unordered pairs of addends into (held-out, pretraining), each pair once and in a random order."""
    rng = random.Random(SEED)  # noqa: S311  # repeatable, not secret
    pairs = [(a, b) for a in range(MAX_ADDEND + 1) for b in range(a, MAX_ADDEND + 1)]
    rng.shuffle(pairs)
    ordered = [(pair[0], pair[1]) if rng.getrandbits(1) else (pair[1], pair[0]) for pair in pairs]
    return ordered[:NUM_HELDOUT], ordered[NUM_HELDOUT:]


def prompt_of(pair: Sequence[int]) -> str:
    """Write a pair as the task it is."""
    return f"{pair[0]}+{pair[1]}="


def write_rows(path: Path, pairs: Sequence[Pair]) -> None:
    """Write one JSON object a line: the prompt and its answer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"prompt": prompt_of(pair), "answer": str(sum(pair))}) for pair in pairs]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_tokenizer() -> Qwen2Tokenizer:
    """Return Qwen2's byte-level tokenizer without its merges: a token a byte, and one for each mark.

    It is of that class because transformers loads any Qwen2 folder's tokenizer as one, with Qwen2's own splitting
    of text, whatever the folder says.
    """
    byte_chars = bytes_to_unicode()
    tokenizer = Qwen2Tokenizer(
        vocab={byte_chars[byte]: byte for byte in range(256)},
        merges=[],
        unk_token=None,
        eos_token="<eos>",  # noqa: S106  # a token, not a secret
        pad_token="<pad>",  # noqa: S106
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    return tokenizer


def make_model(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """Return the untrained model."""
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // VOCAB_MULTIPLE) * VOCAB_MULTIPLE,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    return Qwen2ForCausalLM(config)


def pretrain(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, pairs: Sequence[Pair]) -> None:
    """Teach the model to add and to answer in all styles, by supervised learning on random sums."""
    rng = random.Random(SEED)  # noqa: S311  # repeatable, not secret
    styles, weights = zip(*STYLES.items(), strict=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=NUM_STEPS, pct_start=0.05)
    began = time.monotonic()
    for step in range(1, NUM_STEPS + 1):
        batch = [rng.sample(pair, 2) for pair in rng.choices(pairs, k=BATCH)]
        loss = response_loss(model, tokenizer, batch, rng.choices(styles, weights, k=BATCH))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}/{NUM_STEPS}  loss {loss.item():.4f}  {time.monotonic() - began:.0f} s", flush=True)


def response_loss(
    model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, pairs: Sequence[Sequence[int]], styles: Sequence[str]
) -> Tensor:
    """Return the mean negative log-likelihood of the response tokens, the end of sequence included."""
    prompts = [prompt_of(pair) for pair in pairs]
    responses = [
        style.format(prompt=prompt, sum=sum(pair)) + tokenizer.eos_token
        for style, prompt, pair in zip(styles, prompts, pairs, strict=True)
    ]
    sequences = list(zip(tokenizer(prompts)["input_ids"], tokenizer(responses)["input_ids"], strict=True))
    longest = max(len(prompt_ids) + len(response_ids) for prompt_ids, response_ids in sequences)
    token_ids = torch.full((len(sequences), longest), tokenizer.pad_token_id)
    labels = torch.full_like(token_ids, UNLABELLED)
    for row, (prompt_ids, response_ids) in enumerate(sequences):
        end = len(prompt_ids) + len(response_ids)
        token_ids[row, :end] = torch.tensor(prompt_ids + response_ids)
        labels[row, len(prompt_ids) : end] = torch.tensor(response_ids)
    logits = model(token_ids, use_cache=False).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=UNLABELLED)


def save(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Write a Hugging Face folder that samples from the model's own distribution by default."""
    model.generation_config = GenerationConfig(
        do_sample=True, top_k=0, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone


@torch.no_grad()
def report(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, sets: dict[str, Sequence[Pair]]) -> None:
    """Print the share of sampled responses that are right, and right in a scored style."""
    for name, pairs in sets.items():
        right = scored = 0
        for pair in pairs:
            prompt_ids = torch.tensor([tokenizer.encode(prompt_of(pair))])
            output_ids = model.generate(prompt_ids, attention_mask=torch.ones_like(prompt_ids), max_new_tokens=16)
            response = tokenizer.decode(output_ids[0, prompt_ids.shape[1] :])
            correct = re.search(r"(\d+)}?(?:</answer>)?<eos>$", response)
            is_right = correct is not None and int(correct[1]) == sum(pair)
            right += is_right
            scored += is_right and response.startswith("<answer>")
        print(f"{name}: {right / len(pairs):.3f} right, {scored / len(pairs):.3f} right in a scored style")


if __name__ == "__main__":
    main()
