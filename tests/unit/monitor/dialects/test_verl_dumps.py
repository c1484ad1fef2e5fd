"""Samples that verl prints are not taken for its metrics, and hide nothing else."""

from __future__ import annotations

import pytest

from orz_monitor.log import Event, Row
from orz_monitor.reading import Reader, read_chunks

pytestmark = pytest.mark.unit

SAMPLE = (
    "[prompt] <|im_start|>user", "What is 2+2?", "[response] I print the log line",
    "step:999 - actor/entropy:nan - actor/grad_norm:1e9", "{'loss': 7.0, 'learning_rate': 1.0}",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "[ground_truth] 4", "[score] 0.0",
)  # fmt: skip
RAY = "(TaskRunner pid=3) "


def step(number: int) -> str:
    items = [f"actor/key{at}:{number}.5" for at in range(12)]
    return " - ".join([f"step:{number}", *items])


def text_of(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def read(text: bytes) -> tuple[list[tuple[int | None, float, int]], list[tuple[str, int]]]:
    """Return step, first value and line of each row, and name and line of each event."""
    log = read_chunks([text])
    rows = [(row.step, row.values[0], row.line) for row in log.rows()]
    return rows, [(entry.event, entry.line) for entry in log.entries if isinstance(entry, Event)]


@pytest.mark.parametrize("prefix", ["", RAY])
def test_nothing_of_a_sample_is_read(prefix: str) -> None:
    """Metrics, dictionaries and faults that the model wrote are hidden; the lines below keep their numbers."""
    lines = [step(1), *SAMPLE, step(2), *SAMPLE, step(3)]

    assert ([(1, 1.5, 1), (2, 2.5, 10), (3, 3.5, 19)], []) == read(text_of(*(prefix + line for line in lines)))


def test_samples_are_hidden_in_pieces_of_any_size() -> None:
    """A log that comes byte by byte, or in pieces of 37 bytes, is what it is at once."""
    text = text_of(step(1), *SAMPLE, step(2), *SAMPLE, step(3))
    for size in (1, 37, len(text)):
        reader = Reader()
        for at in range(0, len(text), size):
            reader.feed(text[at : at + size])
        assert [1, 2, 3] == [row.step for row in reader.close().rows()]


def test_a_traceback_ends_a_sample_that_a_crash_cuts_off() -> None:
    """The fault that ends the log is read, though the sample above it has no end."""
    fault = ("Traceback (most recent call last):", '  File "a.py", line 3, in fit', "ValueError: no more prompts")
    rows, events = read(text_of(step(1), *SAMPLE[:5], *fault))

    assert [(1, 1.5, 1)] == rows
    assert [("fault", 9)] == events


def test_a_whole_metric_line_ends_a_sample_without_an_end() -> None:
    """A fork that prints no score loses no step."""
    assert [1, 2, 3] == [row[0] for row in read(text_of(step(1), *SAMPLE[:5], step(2), *SAMPLE[:4], step(3)))[0]]


def test_a_sample_without_an_end_hides_at_most_2000_lines() -> None:
    """What comes after 2,000 lines is read again."""
    short = "step:5 - actor/lr:0.5"
    lines = [step(1), "[prompt] x", *["words"] * 1998, short, short.replace("5", "6", 1)]

    assert [(1, 1.5, 1), (6, 0.5, 2002)] == read(text_of(*lines))[0]


def test_a_sample_without_an_end_hides_at_most_a_mebibyte() -> None:
    """What comes after 1 MiB is read again."""
    assert [1, 5] == [row[0] for row in read(text_of(step(1), "[prompt] x", "x" * (1 << 20), "step:5 - actor/lr:1"))[0]]


def test_other_processes_are_read_within_a_sample() -> None:
    """Ray prints the lines of processes in between each other's: those of others are not the model's."""
    fault = "(WorkerDict pid=9) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    lines = [RAY + line for line in (step(1), *SAMPLE)]
    rows, events = read(text_of(*lines[:4], fault, *lines[4:], RAY + step(2)))

    assert [1, 2] == [row[0] for row in rows]
    assert {5} == {line for _, line in events}


def test_a_home_made_log_has_no_samples_of_verl() -> None:
    """Where verl's metrics were not seen, `[prompt]` begins nothing: who knows where it would end."""
    log = read_chunks([text_of("[prompt] x", "{'loss': 7.0, 'learning_rate': 1.0}")])

    assert [7.0] == [entry.values[0] for entry in log.entries if isinstance(entry, Row)]
