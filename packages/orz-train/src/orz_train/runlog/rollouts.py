"""`rollouts/step_000012.parquet`: what was sampled in a step and how it was scored; `eval_000012.parquet` likewise.

One row a response, in rollout order:

| column | type | meaning |
|---|---|---|
| `step` | int64 | training step |
| `prompt_id` | string | names the prompt's row in its file |
| `group_index` | int32 | index of the prompt in its step |
| `prompt`, `response` | string | as the policy read and wrote them, special tokens included |
| `answer` | string | what the reward compared with |
| `reward` | double | 0 where `status` is not `ok` |
| `status` | string | `ok`, `timeout` or `error` |
| `parts` | map of string to double | named components of the reward |
| `facts` | map of string to string | what the reward function wants people to know |
| `finish` | string | `stop` or `length` |
| `tokens` | int32 | tokens of the response |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
from pyarrow import parquet

from orz_train.runlog.durable import replacing
from orz_train.runlog.errors import LogWriteError
from orz_train.types import Prompt, Rollout, Score

_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("prompt_id", pa.string()),
        ("group_index", pa.int32()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("answer", pa.string()),
        ("reward", pa.float64()),
        ("status", pa.string()),
        ("parts", pa.map_(pa.string(), pa.float64())),
        ("facts", pa.map_(pa.string(), pa.string())),
        ("finish", pa.string()),
        ("tokens", pa.int32()),
    ],
    metadata={"orz.rollouts": "1"},
)


def write_rollouts(
    folder: Path, step: int, samples: Sequence[tuple[Prompt, Rollout, Score]], *, max_rows: int, kind: str = "step"
) -> Path:
    """Write the first samples of a step, whole or not at all; return the file.

    Args:
        folder: of the files.
        step: training step.
        samples: in rollout order.
        max_rows: rows at most.
        kind: `step` for what is trained on, `eval` for an evaluation after the step.

    Raises:
        LogWriteError: the file can't be written; no part of it is left behind.
    """
    path = folder / f"{kind}_{step:06}.parquet"
    table = pa.Table.from_pylist([_row(step, *sample) for sample in samples[:max_rows]], schema=_SCHEMA)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            parquet.write_table(table, unfinished, compression="zstd")
    except OSError as error:
        raise LogWriteError.of(path, error) from error
    return path


def _row(step: int, prompt: Prompt, rollout: Rollout, score: Score) -> dict[str, object]:
    return {
        "step": step,
        "prompt_id": _utf8(prompt.prompt_id),
        "group_index": rollout.group_index,
        "prompt": _utf8(prompt.text),
        "response": _utf8(rollout.text),
        "answer": _utf8(prompt.answer),
        "reward": score.reward,
        "status": score.status.value,
        "parts": [(_utf8(name), value) for name, value in score.parts.items()],
        "facts": [(_utf8(name), _utf8(str(value))) for name, value in score.facts.items()],
        "finish": rollout.finish.value,
        "tokens": rollout.response_len,
    }


def _utf8(text: str) -> str:
    """Escape lone surrogates, which JSON can name and UTF-8 can't hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
