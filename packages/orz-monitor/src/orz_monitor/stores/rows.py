"""Rows of JSON as points: which key is the step, which the time, and what is a number."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from orz_monitor.numbers import number as printed_number

STEP_KEYS: Final = (
    *("step", "_step", "global_step", "training/global_step", "trainer/global_step", "train/global_step"),
    *("train_step", "Step", "iteration", "global_step/max_steps", "time/iterations", "time/total_timesteps"),
    *("total_timesteps", "timesteps", "current_steps"),
)
"""What trainers call the step, likeliest first."""
TIME_KEYS: Final = ("time", "_timestamp", "timestamp", "wall_time", "Wall time", "ts")
"""What they call the time of a row."""
_WORDS: Final = {"nan": math.nan, "infinity": math.inf, "inf": math.inf, "-infinity": -math.inf, "-inf": -math.inf}
_DEEPEST: Final = 8
_MOST_KEYS: Final = 20_000
"""Keys taken of one row."""
_PROGRESS: Final = re.compile(r"(\d{1,15})/\d{1,15}")
_LARGEST_STEP: Final = 1 << 62


def parsed(text: str | bytes) -> object:
    """Parse JSON as trainers write it: `NaN` and `Infinity` are numbers; None for what is none.

    Text that goes too deep, or whose numbers are too long, is none either.
    """
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
    return value


def number(value: object) -> float | None:
    """Return a number, also where it is written as a word in quotes; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower().removeprefix("+"))
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def flat_numbers(row: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers of a row; those of nested objects with their keys joined by slashes."""
    return flat_values(row)[0]


def flat_values(row: Mapping[str, object]) -> tuple[dict[str, float], set[str]]:
    """Return the numbers of a row as `flat_numbers`, and the keys of all that is no number: text, lists, truth values.

    What is null or empty is neither.
    """
    numbers: dict[str, float] = {}
    others: set[str] = set()
    _flatten(row, "", numbers, others, 0)
    return numbers, others


def step_of(row: Mapping[str, object], numbers: Mapping[str, float]) -> tuple[str, int] | None:
    """Return which key holds a row's step, and the step; None where no key does."""
    for key in STEP_KEYS:
        value = numbers.get(key)
        if value is None and isinstance(shown := row.get(key), str):
            match = _PROGRESS.fullmatch(shown)
            value = float(match[1]) if match else quoted_number(shown)
        if value is not None and abs(value) < _LARGEST_STEP and value == int(value):
            return key, int(value)
    return None


def time_of(row: Mapping[str, object], numbers: Mapping[str, float]) -> tuple[str, float] | None:
    """Return which key holds a row's time, and the seconds since the Unix epoch; None where no key does."""
    for key in TIME_KEYS:
        if key in numbers:
            value = numbers[key]
            return key, value / 1000 if value > 1e11 else value  # noqa: PLR2004 - milliseconds
        if isinstance(shown := row.get(key), str):
            try:
                return key, datetime.fromisoformat(shown).timestamp()
            except (ValueError, OverflowError, OSError):
                continue
    return None


def quoted_number(text: str) -> float | None:
    """Return the number that a text is, as in a CSV file or in quotes, perhaps with a unit; None for other text."""
    word = _WORDS.get(text.strip().lower().removeprefix("+"))
    if word is not None:
        return word
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return printed_number(text.strip().encode("utf-8", "replace"))


def _flatten(value: Mapping[str, object], before: str, numbers: dict[str, float], others: set[str], depth: int) -> None:
    """Add the values of an object, and of the objects in it."""
    for key, item in value.items():
        if len(numbers) + len(others) >= _MOST_KEYS:
            return
        if isinstance(item, dict) and depth < _DEEPEST:
            _flatten(item, f"{before}{key}/", numbers, others, depth + 1)
            continue
        found = number(item)
        if found is None and isinstance(item, str):
            found = quoted_number(item)
        if found is not None:
            numbers[f"{before}{key}"] = found
        elif item or item is False:
            others.add(f"{before}{key}")
