"""Checks what a run of this example has left: its log-prob gap, its last checkpoint, and that GSM8K's files load.

    python check.py RUN_DIR [--gsm8k FOLDER] [--out FILE]

The policy of the last checkpoint is loaded by transformers and by vLLM, which samples with it; the two have to agree
about the log-probs of what was sampled. What is found is printed, and written to FILE with the run's commit and the
date. The exit code is 1 where a check has failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from orz_monitor.records import StepRecord, read_records
from orz_train.config.load import load
from orz_train.config.rollouts import Data, FieldNames
from orz_train.config.schema import Config
from orz_train.data import load_eval_sets, load_prompts

SHAPE = Path(__file__).parent / "gsm8k_shape"
"""Rows in the form of GSM8K's, read where its own files are not here."""
GAP_LIMIT = 0.03
"""Nats a token, in bfloat16."""
NUM_PROMPTS, NUM_SAMPLES = 8, 4
SKIPPED = "SKIPPED: GSM8K's own files"
SAID: list[str] = []
"""The lines of the report so far."""


def main() -> None:
    """Run all checks; exit with 1 if one has failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--gsm8k", type=Path, help="a folder with *train.jsonl and *test.jsonl of GSM8K")
    parser.add_argument("--out", type=Path, help="a Markdown file for what is found")
    arguments = parser.parse_args()
    run_dir: Path = arguments.run_dir.resolve()
    config = load(str(run_dir / "config.yaml")).config
    checkpoints = [path for path in run_dir.glob("checkpoints/step_*") if path.name.removeprefix("step_").isdigit()]
    policy = max(checkpoints) / "policy"
    failures = [
        *check_steps(run_dir, config),
        *check_policy(policy, config),
        *check_gsm8k(arguments.gsm8k, policy),
    ]
    for failure in failures:
        say(f"FAILED: {failure}")
    if arguments.out:
        arguments.out.write_text(page(run_dir, config, verdict(failures)), encoding="utf-8")
    sys.exit(1 if failures else 0)


def check_steps(run_dir: Path, config: Config) -> Iterator[str]:
    """Report reward and gap of each step; yield the steps whose gap is too large, and what is missing."""
    records = [line.record for line in read_records(run_dir / "metrics.jsonl")]
    steps = {record.step: record.metrics for record in records if isinstance(record, StepRecord) and record.step}
    for step, metrics in sorted(steps.items()):
        gap = metrics["mismatch/logprob_abs_mean"]
        say(f"step {step:>3}  reward {metrics['reward/mean']:.3f}  gap {gap:.2g} nats a token")
        if not gap < GAP_LIMIT:
            yield f"step {step}: mismatch/logprob_abs_mean is {gap:.2g}, expected less than {GAP_LIMIT}"
    if len(steps) != config.steps:
        yield f"{run_dir}: {len(steps)} steps are recorded, expected {config.steps}"


def check_policy(folder: Path, config: Config) -> Iterator[str]:
    """Sample with vLLM, and ask transformers what it thinks of the samples."""
    from orz_train.backends.vllm.environment import engine_environment  # noqa: PLC0415  see the next line

    os.environ |= engine_environment(config) | {"VLLM_LOGGING_LEVEL": "ERROR"}  # read when vLLM is imported
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415
    from vllm import LLM, SamplingParams  # noqa: PLC0415

    from orz_train.backends.hf import load_tokenizer  # noqa: PLC0415

    tokenizer = load_tokenizer(str(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=config.policy.dtype)
    engine = LLM(
        model=str(folder),
        dtype=config.policy.dtype,
        max_model_len=config.data.max_prompt_tokens + config.generation.max_response_tokens,
        enforce_eager=True,
        logprobs_mode="processed_logprobs",
        generation_config="vllm",
    )
    sampling = SamplingParams(
        temperature=1.0,
        max_tokens=config.generation.max_response_tokens,
        stop=list(config.generation.stop),
        n=NUM_SAMPLES,
        logprobs=0,
        seed=1,
    )
    held_out = load_eval_sets(config.data, tokenizer, max_prompts=NUM_PROMPTS)["sums"].prompts
    gaps = []
    requests = [{"prompt_token_ids": list(prompt.token_ids)} for prompt in held_out]
    for output in engine.generate(requests, sampling, use_tqdm=False):
        prompt = list(output.prompt_token_ids)
        for sample in output.outputs:
            response = list(sample.token_ids)
            sampled = [entry[token].logprob for token, entry in zip(response, sample.logprobs, strict=True)]
            with torch.inference_mode():
                logits_LV = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].float()
            expected_L = logits_LV.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0]
            gaps += (expected_L - torch.tensor(sampled)).abs().tolist()
    gap = sum(gaps) / len(gaps)
    said = f"{held_out[-1].text.splitlines()[-2]} -> {tokenizer.decode(response).strip()}"
    say(f"{folder.parent.name}: vLLM says {said!r}; {gap:.2g} nats a token from transformers")
    if not gap < GAP_LIMIT:
        yield f"{folder}: vLLM and transformers differ by {gap:.2g} nats a token, expected less than {GAP_LIMIT}"


def check_gsm8k(folder: Path | None, policy: Path) -> Iterator[str]:
    """Read GSM8K's files into prompts of this model; without a folder, rows of their shape."""
    if folder is None:
        say(f"{SKIPPED}, of which rows of the same shape stand in; name their folder with --gsm8k FOLDER")
        folder = SHAPE
    from orz_train.backends.hf import load_tokenizer  # noqa: PLC0415  transformers takes seconds

    tokenizer = load_tokenizer(str(policy))
    for part in ("train", "test"):
        files = sorted(folder.glob(f"*{part}.jsonl"))
        if not files:
            yield f"{folder}: there is no *{part}.jsonl"
            continue
        data = Data(train=(str(files[0]),), fields=FieldNames(prompt="question"), template="chat")
        loaded = load_prompts(data, tokenizer)
        longest = max(len(prompt.token_ids) for prompt in loaded.prompts)
        say(f"{files[0].name}: {len(loaded.prompts)} prompts of at most {longest} tokens")
        if loaded.too_long or not all(prompt.answer for prompt in loaded.prompts):
            yield f"{files[0]}: a prompt is too long or has no answer"


def verdict(failures: list[str]) -> str:
    """Sum up: a check that was left out is no check that passed."""
    if failures:
        return "A check FAILED"
    skipped = any(line.startswith(SKIPPED) for line in SAID)
    return "All checks passed, GSM8K by rows of its shape" if skipped else "All checks passed"


def page(run_dir: Path, config: Config, summed_up: str) -> str:
    """Write what was said as a page, with where and on what it was found."""
    found = json.loads((run_dir / "environment.json").read_text())
    ran_on = "\n".join(f"- {part}: {what}" for part, what in found["backends"].items())
    tree = found["git"]["commit"][:7] + (", changed" if found["git"]["dirty"] else "") if found["git"] else "unknown"
    return (
        f"# Ten steps of GRPO on SmolLM2-135M\n\nMade by `nox -s real_model` on {datetime.now(UTC):%Y-%m-%d}, commit"
        f" {tree}, {os.cpu_count()} cores, {config.rollouts_per_step} rollouts a step. {summed_up}. Gaps are to be"
        f" below {GAP_LIMIT} nats a token.\n\n"
        f"{ran_on}\n\n```\n" + "\n".join(SAID) + "\n```\n"
    )


def say(line: str) -> None:
    """Write a line of the report."""
    SAID.append(line)
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
