"""Writes sums of two numbers as questions: `train.jsonl` and `heldout.jsonl`, which share no pair in either order.

python make_sums.py --out sums
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from itertools import combinations_with_replacement
from pathlib import Path

LARGEST = 15
NUM_HELD_OUT = 32
QUESTION = "What is {a} + {b}?"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    pairs = list(combinations_with_replacement(range(1, LARGEST + 1), 2))
    random.Random(0).shuffle(pairs)  # noqa: S311  a shuffle, not a secret
    held_out, train = pairs[:NUM_HELD_OUT], pairs[NUM_HELD_OUT:]
    train += [(b, a) for a, b in train if a != b]
    for name, rows in (("train", train), ("heldout", held_out)):
        lines = [json.dumps({"prompt": QUESTION.format(a=a, b=b), "answer": str(a + b)}) + "\n" for a, b in rows]
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        sys.stdout.write(f"{out / name}.jsonl: {len(rows)} questions\n")


if __name__ == "__main__":
    main()
