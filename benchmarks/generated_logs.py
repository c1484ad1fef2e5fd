"""Logs of known truth, as two trainers would have written them: what reading is measured on."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_BLOCKS: Final = "█" * 9
_WORDS: Final = (
    "so",
    "the",
    "total",
    "is",
    "therefore",
    "we",
    "add",
    "and",
    "then",
    "multiply",
    "each",
    "side",
    "answer",
    "of",
)
_ENGINES: Final = 32
_ENGINE_FRAC: Final = 0.05
_DAMAGED_FRAC: Final = 0.001
_PADDING_LINES: Final = 10_000
_VERL_KEYS: Final = (
    *(f"actor/{key}" for key in ("pg_loss", "kl_loss", "entropy", "grad_norm", "lr", "pg_clipfrac", "ppo_kl")),
    *(
        f"critic/{key}/{part}"
        for key in ("score", "rewards", "advantages", "returns")
        for part in ("mean", "max", "min")
    ),
    *(f"{key}/{part}" for key in ("response_length", "prompt_length") for part in ("mean", "max", "min", "clip_ratio")),
    *(
        f"timing_s/{key}"
        for key in ("gen", "old_log_prob", "ref", "values", "adv", "update_actor", "update_critic", "step")
    ),
    *(f"timing_per_token_ms/{key}" for key in ("gen", "ref", "values", "adv", "update_actor", "update_critic")),
    *(
        f"perf/{key}"
        for key in ("total_num_tokens", "time_per_step", "throughput", "mfu/actor", "max_memory_allocated_gb")
    ),
)


def write_orz(path: Path, num_bytes: int, seed: int) -> dict[str, list[float]]:
    r"""Write an ORZ log: 32 ranks, bars with `\r`, samples of text, vLLM's lines, some damage.

    Returns:
        The truth: `reward/mean` and `policy/loss` of each step, and the mean `bar/pg` of each pass.
    """
    rng = random.Random(seed)  # noqa: S311 - a generator of test data
    truth: dict[str, list[float]] = {"reward/mean": [], "policy/loss": [], "bar/pg": []}
    with path.open("wb") as file:
        for step in range(sys.maxsize):
            if file.tell() >= num_bytes:
                return truth
            reward, loss = rng.random(), rng.uniform(-0.1, 0.1)
            truth["reward/mean"].append(reward)
            truth["policy/loss"].append(loss)
            file.write(_driver(step, "orz.ppo.trainer:make_experience:227", "start generation"))
            file.writelines(_chatter(rng, 400))
            summary = (
                f"avg_raw_rewards: {reward}, avg_kl: 0.01, avg_response_length: 852.1, avg_custom_rewards: {reward}"
            )
            file.write(_driver(step, "orz.ppo.trainer:make_experience:317", summary))
            file.writelines(_bar(rng, "Critic", ("critic_loss", "values", "critic_lr"), 216)[0])
            frames, mean = _bar(rng, "Actor", ("pg", "ret", "glen", "tlen", "kl", "act_lr", "ent"), 216)
            truth["bar/pg"].append(mean)
            file.writelines(frames)
            status = (
                f"{{'policy_loss': {loss}, 'actor_lr': 1e-06, 'entropy': 0.45, 'kl': 0.01, 'policy_update_steps': 1.0}}"
            )
            file.write(_driver(step, "orz.ppo.trainer:train:173", status))
    raise AssertionError


def write_verl(path: Path, num_bytes: int, seed: int) -> dict[str, list[float]]:
    """Write a verl log in full precision with numpy's wrappers, samples of text between the steps.

    Returns:
        The truth: `reward/mean` and `policy/loss` of each step.
    """
    rng = random.Random(seed)  # noqa: S311 - a generator of test data
    truth: dict[str, list[float]] = {"reward/mean": [], "policy/loss": []}
    with path.open("wb") as file:
        for step in range(1, sys.maxsize):
            if file.tell() >= num_bytes:
                return truth
            values = [rng.gauss(0.5, 0.02) for _ in _VERL_KEYS]
            truth["policy/loss"].append(values[_VERL_KEYS.index("actor/pg_loss")])
            truth["reward/mean"].append(values[_VERL_KEYS.index("critic/score/mean")])
            shown = [
                f"{key}:np.float64({value})" if index % 3 == 0 else f"{key}:{value}"
                for index, (key, value) in enumerate(zip(_VERL_KEYS, values, strict=True))
            ]
            line = f"\x1b[36m(TaskRunner pid=678203)\x1b[0m step:{step} - {' - '.join(shown)}\n"
            file.write(line.encode())
            file.writelines(_chatter(rng, 8))
    raise AssertionError


def write_padded(path: Path, log: Path, times: int, seed: int) -> None:
    """Write a log again with samples of text between its lines: as many steps, but so many times its size."""
    rng = random.Random(seed)  # noqa: S311 - a generator of test data
    text = b"".join(_sample(rng, _actor(rng)) for _ in range(_PADDING_LINES))
    with log.open("rb") as source, path.open("wb") as file:
        while lines := source.readlines(len(text)):
            file.writelines(lines)
            missing = (times - 1) * sum(map(len, lines))
            while missing > 0:
                missing -= file.write(text if missing >= len(text) else text[: text.index(b"\n", missing - 1) + 1])


def _driver(step: int, place: str, message: str) -> bytes:
    """Return a loguru record."""
    clock = f"{step // 3600 % 24:02}:{step // 60 % 60:02}:{step % 60:02}"
    return f"2025-02-{1 + step // 86400 % 28:02} {clock}.882 | INFO     | {place} - {message}\n".encode()


def _chatter(rng: random.Random, num_lines: int) -> Iterator[bytes]:
    """Yield lines that hold no metric of the trainer: samples, engine lines, damage."""
    for _ in range(num_lines):
        kind = rng.random()
        prefix = _actor(rng)
        if kind < _ENGINE_FRAC:
            yield (
                f"{prefix}INFO 02-24 10:13:50 metrics.py:455] Avg prompt throughput: 0.0 tokens/s, Avg generation "
                f"throughput: {rng.uniform(1, 5000):.1f} tokens/s, Running: 16 reqs, Swapped: 0 reqs\n"
            ).encode()
        elif kind < _ENGINE_FRAC + _DAMAGED_FRAC:
            yield prefix.encode() + bytes(rng.randrange(0x80, 0x100) for _ in range(40)) + b"\n"
        else:
            yield _sample(rng, prefix)


def _actor(rng: random.Random) -> str:
    """Return what Ray prints before the lines of one of the engines."""
    return f"\x1b[36m(LLMActor pid={10_000 + 7 * rng.randrange(_ENGINES)})\x1b[0m "


def _sample(rng: random.Random, prefix: str) -> bytes:
    """Return a line of what a model has written."""
    return (prefix + " ".join(rng.choices(_WORDS, k=rng.randrange(5, 30))) + f" {rng.random():.4f}\n").encode()


def _bar(rng: random.Random, role: str, keys: tuple[str, ...], total: int) -> tuple[list[bytes], float]:
    """Return the frames of a pass as Ray prints them, and the true mean of the first key."""
    frames: list[bytes] = []
    first = []
    prefix = f"\x1b[36m({role}RayActorBase pid=24113)\x1b[0m \r"
    for done in range(total):
        values = [f"{rng.uniform(-1, 1):.3g}" for _ in keys]
        first.append(float(values[0]))
        postfix = ", ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
        bar = f"{role} Train epoch [1/1]:  {100 * done // total:3}%|{_BLOCKS}| "
        tail = f"/{total} [02:06<00:06,  6.57s/it, {postfix}]"
        frames.append(f"{prefix}{bar}{done}{tail}\r{bar}{done + 1}{tail}\n".encode())
    return frames, sum(first) / len(first)
