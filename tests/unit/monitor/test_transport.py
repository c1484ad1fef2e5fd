"""Prefixes, bars, numbers, terminal noise and wrapped lines, in the shapes that logs have."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orz_monitor.dialects.bars import read_bar
from orz_monitor.dialects.dicts import dict_pairs
from orz_monitor.log import Event, Row
from orz_monitor.numbers import Precision, number
from orz_monitor.reading import read_chunks
from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.lines import Line, without_torn_number
from orz_monitor.transport.wrapping import unwrapped, wrapped_at

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "body", "role", "rank", "level"),
    [
        ("\x1b[36m(TaskRunner pid=678203)\x1b[0m hello", "hello", "TaskRunner", None, ""),
        ("\x1b[2m\x1b[36m(WorkerDict pid=67, ip=10.0.0.2)\x1b[0m hello", "hello", "WorkerDict", None, ""),
        ("(RolloutRayActor pid=1) (EngineCore) INFO 04-28 22:54:32 [loggers.py:257] hello", "hello", "", None, "INFO"),
        ("(autoscaler +2m30s) Error: none", "Error: none", "autoscaler", None, ""),
        ("\x1b[33m(raylet)\x1b[0m [2025-03-02 11:56:50,784 E 451 452] (raylet) f.cc:1: x", "", "raylet", None, ""),
        ("[rank3]:[W606 11:16:18.796225554 reducer.cpp:1400] Warning: x", "Warning: x", "", 3, "WARNING"),
        ("W0606 11:12:45.781000 12152 torch/distributed/run.py:793] x", "x", "", None, "WARNING"),
        ("12: hello", "hello", "", 12, ""),
        ("2025-02-21 22:59:11.882 | INFO     | orz.ppo.trainer:train:182 - hello", "hello", "", None, "INFO"),
        ("22:59:11    INFO hello", "hello", "", None, "INFO"),
        ("INFO 08-13 19:25:45 ppo_trainer.py:547] hello", "hello", "", None, "INFO"),
        ("[2026-09-04 01:00:00 actor_cell0_rank1] model.py:44 - hello", "hello", "actor_cell0_rank1", 1, ""),
        ("(AReaL) 20260725-13:51:09.653 StatsLogger INFO: hello", "hello", "", None, "INFO"),
        ("20260725-13:51:09.653 StatsLogger INFO: hello", "hello", "", None, "INFO"),
        ("[2025-02-22 10:11:12,345] [INFO] [logging.py:128:log_dist] [Rank 0] step=1", "step=1", "", 0, "INFO"),
        ("2024-12-10 06:50:29,276\tINFO worker.py:1752 -- hello", "hello", "", None, "INFO"),
        ("(1) The process is killed", "(1) The process is killed", "", None, ""),
        ("step:12 - a:1", "step:12 - a:1", "", None, ""),
    ],
)
def test_prefixes(text: str, body: str, role: str, rank: int | None, level: str) -> None:
    """Who printed a line, when, and what is left of it."""
    segment = Line(text.encode()).segments[0]
    if body:
        assert segment.text == body
    if role:
        assert segment.origin.role == role
    assert segment.origin.rank == rank
    assert segment.level == level


def test_records_glued_to_a_bar_and_frames_of_one_line() -> None:
    """A physical line may hold many things that were printed."""
    line = Line(
        b"\x1b[36m(A pid=1)\x1b[0m \rTrain:  50%|#| 1/2 [00:01<00:01,  1.00s/it]"
        b"\rTrain: 100%|#| 2/2 [00:02<00:00, 1.00s/it]"
        b"2025-02-21 22:59:11.882 | INFO     | a.b:c:1 - saved \x1b[32m [repeated 7x across cluster]\x1b[0m"
    )
    assert [segment.text[:6] for segment in line.segments] == ["Train:", "Train:", "saved"]
    assert {segment.origin.pid for segment in line.segments} == {"1"}
    assert line.segments[2].repeats == 7
    assert line.segments[2].time is not None
    alone = Line(b"Train:  50%|#| 1/2 [00:01<00:01,  1.00s/it]", 2, before=b"\x1b[36m(A pid=1)\x1b[0m ")
    assert alone.segments[0].origin.pid == "1"


@pytest.mark.parametrize(
    ("text", "name", "done", "total", "elapsed", "postfix"),
    [
        ("Train [1/1]:  94%|█████████▍| 17/18 [02:06<00:06,  6.57s/it, pg=0.03, ret=1]", "Train [1/1]", 17, 18, 126,
         {"pg": "0.03", "ret": "1"}),
        (" 50%|#####     | 1/2 [1:00:01<?, ?it/s]", "", 1, 2, 3601, {}),
        ("12it [00:03, 3.9it/s]", "", 12, None, 3, {}),
        ("x: 100%|##| 37.0/37.0 [00:03<00:00, 3.9it/s]", "x", 37, 37, 3, {}),
    ],
)  # fmt: skip
def test_bars(text: str, name: str, done: int, total: int | None, elapsed: float, postfix: dict[str, str]) -> None:
    """Every form of a bar that tqdm has."""
    bar = read_bar(text.encode())
    assert bar is not None
    assert (bar.name.decode(), bar.done, bar.total, bar.elapsed_s) == (name, done, total, elapsed)
    assert {key.decode(): value.decode() for key, value in bar.postfix} == postfix


@pytest.mark.parametrize(
    ("token", "value"),
    [
        (b"np.float64(-0.0123)", -0.0123),
        (b"np.int64(7)", 7),
        (b"tensor(0.5, device='cuda:0')", 0.5),
        (b"tensor([0.5], grad_fn=<X>)", 0.5),
        (b"'0.2584'", 0.2584),
        (b"1e-6", 1e-6),
        (b"-inf", -math.inf),
        (b"12.3s", 12.3),
        (b"350ms", 0.35),
        (b"5.4%", 0.054),
        (b"1h 5m", 3900),
        (b"13m 16s", 796),
        (b"2d 3h", 183600),
        (b"89.6 GiB", 89.6 * 2**30),
        (b"8712 tokens/s", 8712),
        (b"8.7k tokens/s", 8700),
        (b"12.3k", 12_300),
        (b"1.5M", 1.5e6),
        (b"12.5G", 1.25e10),
        (b"1.3kB", 1300),
        (b"2GB/s", 2e9),
        (b"20.20s/it", 20.2),
        (b"1.2kit/s", 1200),
        (b"5m", 300),
        (b"10min", 600),
        (b"2h", 7200),
        (b"1.0ns", 1e-9),
        (b"'1,234,567'", 1_234_567),
        (b"1,234.5", 1234.5),
        (b"1,23", None),
        (b"7B", None),
        (b"3 apples", None),
        (b"None", None),
        (b"1_000", None),
        (b"abc", None),
        (b"", None),
        (b"(0.9, 0.95)", None),
    ],
)
def test_numbers(token: bytes, value: float | None) -> None:
    """A printed value in base units, or none."""
    assert number(token) == (pytest.approx(value) if value is not None else None)


@pytest.mark.parametrize(
    ("tokens", "kind", "quantum"),
    [
        ([b"0.100", b"1.250", b"0.000"], "fixed", 1e-3),
        ([b"0.0123", b"1.07e+3", b"852"], "significant", 1.0),
        ([b"0.4567890763282776", b"1.0"], "exact", 0.0),
        ([b"'-0.007415'", b"'0.2584'"], "significant", 0.1),
        ([b"12", b"852"], "exact", 0.0),
        ([b"50.0%", b"51.20%", b"12.30%"], "significant", 0.1),
    ],
)
def test_the_quantum_of_852(tokens: list[bytes], kind: str, quantum: float) -> None:
    """How precisely 852 would be known, where values are printed like these."""
    precision = Precision()
    for token in tokens:
        precision.observe(token)
    assert precision.kind == kind
    if kind != "significant" or precision.digits in {3, 4}:
        assert precision.quanta(np.array([852.0]))[0] == pytest.approx(quantum)


def test_a_number_without_end_takes_no_square_time() -> None:
    """Half a million digits are looked at once; tried from each of them on, they would take hours."""
    precision = Precision()
    precision.observe(b"9" * 500_000)
    assert 500_000 == precision.digits


def test_a_unit_is_known_whichever_half_of_a_file_showed_it() -> None:
    """Percentages are fractions: two decimals of them are known to 0.0001."""
    first, second = Precision(), Precision()
    first.observe(b"nan")
    second.observe(b"12.50%")
    first.merge(second)
    assert first.quanta(np.array([0.125]))[0] == pytest.approx(1e-4)


def test_dictionaries_within_dictionaries() -> None:
    """Keys are joined; lists, texts and what is torn are no numbers and no trouble."""
    pairs = dict_pairs(b"{'a': {'b': 1, 'c': {'d': nan}}, 'e': [1, 2], 'f': 'x, y', 'g': None, \"h\": -2.5e-3, 'tor")
    assert pairs == [
        (b"a/b", b"1"),
        (b"a/c/d", b"nan"),
        (b"e", b"[1, 2]"),
        (b"f", b"'x, y'"),
        (b"g", b"None"),
        (b"h", b"-2.5e-3"),
    ]


def test_escapes_are_taken_out() -> None:
    """Colours, titles and links are off; the text of a link stays."""
    assert without_escapes(
        b"\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\ \x1b[1;38;2;1;2;3mred\x1b[0m" + b"x" * 100
    ) == (b"text red" + b"x" * 100)


@pytest.mark.parametrize("pad", [False, True])
def test_lines_that_a_terminal_has_wrapped(pad: bool) -> None:
    """A metric line over three physical lines is one, and its line number stays."""
    whole = [f"step:{i} - actor/pg_loss:0.{i}23456789 - " + "x" * 60 + f" - critic/score/mean:0.{i}" for i in range(9)]
    text = ""
    for line in whole:
        rows = [line[i : i + 80] for i in range(0, len(line), 80)]
        text += "".join((row.ljust(80) if pad else row) + "\n" for row in rows)
    data = text.encode()
    assert wrapped_at(data) == (80, pad)
    log = read_chunks(unwrapped([data[:500], data[500:]]))
    assert [entry.line for entry in log.entries] == list(range(1, 19, 2))
    assert wrapped_at("\n".join(whole).encode()) == (0, False)


def rows_between(other: str) -> bytes:
    """Rows of a trainer, whose lengths differ by a few digits, the longest of them often; another line after each."""
    rows = [f"{{'loss': 0.25, 'reward': {'0.5' + '0' * (i % 3)}, 'completions/mean_length': 203.5}}" for i in range(60)]
    return "".join(f"{row}\n{other.format(i)}\n" for i, row in enumerate(rows)).encode()


@pytest.mark.parametrize(
    "other",
    ["[2025-03-02 11:00:01,123] [INFO] step={}, skipped=0", "{} of 60", ""],
    ids=["an engine's", "with other numbers", "empty"],
)
def test_lines_between_rows_of_nearly_one_length_are_no_rests(other: str) -> None:
    """Many rows have the greatest length; as many are a character or two shorter, and what follows is the same."""
    data = rows_between(other)
    assert wrapped_at(data) == (0, False)
    assert b"".join(unwrapped([data])) == data


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (20, "[11:00:{:02},123] [deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536\n"),
        (60, "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768\n"),
    ],
    ids=["what follows also follows others", "the same message before every row"],
)
def test_messages_of_one_length_are_not_wrapped(number: int, message: str) -> None:
    """They are the longest lines of the log, and each is followed by a row."""
    data = "".join(message.format(i) * (i < number) + f"step: {i} loss: 0.5\n" for i in range(60)).encode()
    assert wrapped_at(data) == (0, False)


def test_segments_and_places_in_a_batch_count_the_same_bytes() -> None:
    """Where a record stands on its line is told alike by who takes lines apart and by who reads in bulk."""
    bar = b"Training: 5%|#| 1/9 [00:01<00:02, 1.0s/it]"
    glued = b"2025-02-21 22:59:11.882 | INFO     | a:b:1 - {'loss': 1}"
    line = b"\x1b[36m(Worker pid=1)\x1b[0m " + bar + b"\r\x1b[1m" + bar + b"\x1b[0m" + glued
    starts = [segment.offset for segment in Line(line).segments]
    assert starts == [15, 15 + len(bar) + 1, 15 + 2 * len(bar) + 1 + glued.index(b"{")]  # 15 of the prefix, no escapes
    batch = Batch(b"one\n" + line + b"\n")
    places = [4 + line.index(bar), 4 + line.rindex(bar), 4 + line.index(b"{")]
    assert [batch.line_and_offset(place) for place in places] == [(2, start) for start in starts]
    assert [batch.line_and_offset(place) for place in reversed(places)] == [(2, start) for start in reversed(starts)]
    assert batch.line_and_offset(2) == (1, 2)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"step:40 - actor/lr:1", b"step:40 - actor/lr:"),
        (b"actor/lr:1e", b"actor/lr:"),
        (b"actor/lr:1e-0", b"actor/lr:"),
        (b"actor/kl:-0.", b"actor/kl:"),
        (b"actor/kl:np.float64(0.03", b"actor/kl:np.float64("),
        (b"tokens: 1,23", b"tokens: "),
        (b"actor/lr:1e-06 ", b"actor/lr:1e-06 "),
        (b"actor/lr:1e-06 -", b"actor/lr:1e-06 -"),
        (b"{'lr': 1e-06}", b"{'lr': 1e-06}"),
        (b"pg=0.033, kl=0.08]", b"pg=0.033, kl=0.08]"),
        (b"usage: 12.5%", b"usage: 12.5%"),
        (b"cost: 12.34s", b"cost: 12.34s"),
        (b"actor/lr:1e-06\x1b[0m", b"actor/lr:1e-06\x1b[0m"),
        (b"actor/kl:nan", b"actor/kl:nan"),
        (b"Training is done", b"Training is done"),
        (b"12.5", b""),
        (b"", b""),
    ],
)
def test_a_number_that_may_be_half_is_taken_off(line: bytes, kept: bytes) -> None:
    """What has something behind it is whole."""
    assert without_torn_number(line) == kept


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (b"step:40 - actor/kl_loss:0.5 - actor/lr:1", ("actor/kl_loss",)),  # of 1e-06
        (b"step:40 - actor/kl_loss:0.5 - actor/lr:1\n", ("actor/kl_loss", "actor/lr")),
        (b"step:40 - actor/kl_loss:0.5 - actor/lr:np.float64(1e-06)", ("actor/kl_loss", "actor/lr")),
        (b"Training Progress: 1%| | 1/9 [00:01<00:02, 1.0s/it]step:40 - x:1.5 - y:0.3", ("x",)),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_the_last_number_of_a_file_without_a_newline_is_not_taken(
    text: bytes, keys: tuple[str, ...], size: int
) -> None:
    """A file that is still being written may end in half a number; the lines before it lose nothing."""
    before = text.replace(b"40", b"39").rstrip(b"\n") + b"\n"
    data = before + text
    log = read_chunks([data[i : i + size] for i in range(0, len(data), size)])
    found = [row.keys for row in log.entries if isinstance(row, Row)]
    assert found[0][: len(keys)] == keys
    assert len(found[0]) == 2
    assert found[1:] == [keys]
    assert log.files[0].num_bytes == len(data)
    assert log.files[0].num_lines == 2


def test_a_fault_at_the_end_keeps_its_words() -> None:
    """No value is taken of it, so none can be half."""
    log = read_chunks([b"Traceback (most recent call last):\n  File 'a.py', line 3, in f\nKeyError: 12"])
    faults = [entry.data for entry in log.entries if isinstance(entry, Event)]
    assert [("KeyError: 12" in str(data)) for data in faults] == [True]
