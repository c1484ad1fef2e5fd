"""A part of a big file that begins within a sample of verl's knows it: what the model wrote is no metric."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orz_monitor import parts
from orz_monitor.dialects import known_dialects
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks
from orz_monitor.transport.past import Past

pytestmark = pytest.mark.component


def step(number: int) -> str:
    return " - ".join([f"step:{number}", *(f"actor/key{at}:{number}.5" for at in range(12))]) + "\n"


def sample(num_lines: int) -> str:
    written = "".join(f"step:{900 + at} - actor/entropy:nan - actor/grad_norm:1e9\n" for at in range(num_lines))
    return f"[prompt] x\n[response] I write\n{written}[ground_truth] 4\n[score] 0.0\n"


def read(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | None, int, float]]:
    monkeypatch.setattr(parts, "_HEAD_START_BYTES", 0)
    log = Log()
    parts.read_in_parts(path, log, known_dialects(), number)
    return [(row.step, row.line, row.values[0]) for row in log.rows()]


@pytest.mark.parametrize("number", [2, 3, 8])
def test_a_cut_within_a_sample_changes_nothing(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps between samples are read, those in them are not, with the line numbers of the whole file."""
    path = tmp_path / "train.log"
    lengths = [1500, 40, 700, 3]
    path.write_text("".join(step(at + 1) + sample(length) for at, length in enumerate(lengths)) + step(5))
    rows = read(path, number, monkeypatch)
    begins = [1 + sum(length + 5 for length in lengths[:at]) for at in range(5)]
    assert rows == [(at + 1, begin, at + 1.5) for at, begin in enumerate(begins)]


def test_a_part_without_a_step_of_its_own_hides_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That verl wrote the log is known from the parts before, however far back its last step is."""
    path = tmp_path / "train.log"
    path.write_text(step(1) + "words\n" * 400_000 + sample(900) + step(2))
    assert [row[0] for row in read(path, 8, monkeypatch)] == [1, 2]


def test_samples_of_another_trainer_hide_nothing_in_any_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a step of verl's before it, `[prompt]` begins nothing."""
    path = tmp_path / "train.log"
    path.write_text("".join(f"[prompt] x\n{{'loss': {at}.5, 'learning_rate': 1e-06}}\n" for at in range(300)))
    values = [value for _, _, value in read(path, 3, monkeypatch)]
    whole = read_chunks([path.read_bytes()])
    assert values == [row.values[0] for row in whole.rows()] == [at + 0.5 for at in range(300)]


def test_what_stands_before_a_part(tmp_path: Path) -> None:
    """Whole lines of the last bytes; a pattern also where two pieces of the file meet, and not behind the place."""
    path = tmp_path / "train.log"
    path.write_bytes(b"x" * ((1 << 20) - 5) + b"step:12 - \nlast\nstep:13 - \n")
    past = Past(path, (1 << 20) + 11)
    assert past.last_lines(9) == b"last\n"
    assert past.holds(re.compile(rb"step:\d+ - "))
    assert not past.holds(re.compile(rb"step:\d+ - "), but_last=12)
    assert not past.holds(re.compile(rb"step:13"))
    assert Past(path, 0).last_lines(9) == b""
