"""A home-made log gives the same rows and counts in pieces of any size, whatever stands between its steps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orz_monitor.dialects import known_dialects, with_fallback
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.property

LINES = [
    "step @ | loss 0.5 | reward 0.@",
    "step @ | loss 0.5 | reward 0.@ | zork 7",
    "Step @/99: loss 0.13 12 kl 0.02 (0.3)",
    "{'step': @, 'loss': 1} {'reward': 2, 'of': {'bleu': 3}} ter 4",
    "epoch 1 step @ grad_norm 0.5",
    "loss: 0,5 reward: 1,250",
    "bleu=@ chrf=4",
    "bleu: 3.5 | chrf: 4",
    "bleu=7",
    "one=1 two=2 three=3 of them",
    "AB=3, BC=4",
    "Answer: 42",
    'response: {"loss": 900}',
    "reward: 0.5",
    "=== Step @ ===",
    "step 7B loss 1 kl 2",
    "(B pid=2) bleu=3 chrf=4",
    "(B pid=2) step @ loss 3 kl 4",
    "Namespace(lr=1e-4, kl=0.1)",
    "Engine 000: Avg prompt throughput: 0.0 tokens/s, Running: 1 reqs, GPU KV cache usage: 76.5%",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate=2 free=3",
    "so it is",
    "\x1b[32mbleu=3 \x1b[0mchrf=4\rbleu=5 chrf=6",
]
LOGS = st.lists(st.tuples(st.sampled_from(LINES), st.booleans()), max_size=40)


def written(lines: list[tuple[str, bool]]) -> bytes:
    """Return a log whose step rises with some of its lines."""
    step, found = 0, []
    for line, rises in lines:
        step += rises
        found.append(line.replace("@", str(step)))
    return "\n".join(found).encode()


def read(chunks: list[bytes]) -> tuple[list[tuple[object, ...]], object]:
    log: Log = read_chunks(chunks, dialects=with_fallback(known_dialects()))
    rows: list[tuple[object, ...]] = [
        (
            row.line,
            row.offset,
            row.dialect,
            row.keys,
            row.values.tolist(),
            row.step,
            row.origin,
            row.num_unnamed,
            row.bar,
        )
        for row in log.rows()
    ]
    facts = log.files[0]
    return rows, (facts.num_lines, facts.num_missed_lines, log.votes, log.texts)


@settings(max_examples=150, deadline=None)
@given(LOGS, st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_pieces_give_what_the_whole_gives(lines: list[tuple[str, bool]], sizes: list[int]) -> None:
    """Rows with their lines, steps and values, and what was counted."""
    data = written(lines)
    pieces, start, turn = [], 0, 0
    while start < len(data):
        pieces.append(data[start : start + sizes[turn % len(sizes)]])
        start, turn = start + len(pieces[-1]), turn + 1
    assert read(pieces) == read([data])


@settings(max_examples=150, deadline=None)
@given(LOGS)
def test_a_step_is_read_whatever_stands_before_it(lines: list[tuple[str, bool]]) -> None:
    """In a log that is a trainer's, nothing between its steps takes a value away from them."""
    steps = [(LINES[0], True)] * 3
    rows, _ = read([written([*steps, *lines, (LINES[0], True)]) + b"\n"])
    step = 4 + sum(rises for _, rises in lines)
    assert rows[-1][3:6] == (("loss", "reward"), [0.5, float(f"0.{step}")], step)
