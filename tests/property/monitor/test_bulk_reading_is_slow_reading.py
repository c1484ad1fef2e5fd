"""What is read many lines at once is what would have been read line by line, wherever a log is damaged."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orz_monitor.dialects import KNOWN, Dialect, find_dialect
from orz_monitor.dialects.engines import Engines
from orz_monitor.dialects.orz import bars as orz_bars
from orz_monitor.dialects.passes import Passes
from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.log import Event, Log
from orz_monitor.reading import read_chunks
from orz_monitor.transport import template
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.needles import Needles
from orz_monitor.transport.pieces import Pieces
from orz_monitor.transport.template import COUNT, NUMBER, Part, Template, Until

pytestmark = pytest.mark.property

RAY = "\x1b[36m({role} pid={pid})\x1b[0m "
FRAME = b"Actor Train epoch [1/1]:  50%|# | 1/2 [02:06<00:06,  6.57s/it, pg=1"
DAMAGE = (
    FRAME,
    FRAME * 3,
    b"NaN",
    b"Infinity",
    b".5",
    b"1e12345",
    b"",
    b"\n",
    b"\r",
    b"]",
    b"|",
    b", ",
    b"nan",
    b"\xff",
    b"0",
    b"CUDA error: x\n",
    b"\nTraceback (most recent",
)
DAMAGE_OF_ITEMS = (b":", b" - ", b")", b"_", b",", b" ", b"np.float64(", b"\x1b[0m", b"step:3 - ", b"0" * 70, b"\0")


def bars(rng: random.Random) -> str:
    """A pass of a bar, each frame followed by its repetition."""
    role, keys = rng.choice([("Actor", ("pg", "glen", "kl")), ("Critic", ("critic_loss", "values"))])
    total = rng.randrange(2, 6)
    lines = []
    for done in range(total):
        postfix = ", ".join(f"{key}={rng.choice([rng.random(), -1e-6, 852]):.3g}" for key in keys)
        frames = [
            f"{role} Train epoch [1/1]: {100 * at // total:3}%|███ | {at}/{total} [02:06<00:06,  6.57s/it, {postfix}]"
            for at in (done, done + 1)
        ]
        lines.append(RAY.format(role=f"{role}RayActorBase", pid=7) + "\r" + "\r".join(frames) + "\n")
    return "".join(lines)


def metrics(rng: random.Random) -> str:
    """A line of verl."""
    items = " - ".join(
        f"{key}:np.float64({rng.random()})" if wrapped else f"{key}:{rng.random()}"
        for key, wrapped in (("actor/pg_loss", True), ("actor/lr(1e-4)", False), ("critic/score/mean", True))
    )
    return RAY.format(role="TaskRunner", pid=3) + f"step:{rng.randrange(9)} - {items}\n"


def engine(rng: random.Random) -> str:
    """A line of vLLM."""
    record = f"Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: {rng.random() * 5000:.1f} tokens/s"
    cache = rng.choice(["", f", GPU KV cache usage: {rng.random() * 100:.1f}%"])
    stamp = f"INFO 02-24 10:13:{rng.randrange(60):02} metrics.py:455] "
    return RAY.format(role="LLMActor", pid=rng.randrange(3)) + stamp + f"{record}, Running: 16 reqs{cache}\n"


def damaged(seed: int, num_parts: int, num_hurt: int) -> bytes:
    """Write a log, and replace a few bytes here and there."""
    rng = random.Random(seed)  # noqa: S311 - test data
    parts: tuple[Callable[[random.Random], str], ...] = (bars, metrics, engine, engine, lambda _: "so the sum is 3\n")
    data = "".join(rng.choice(parts)(rng) for _ in range(num_parts)).encode()
    return hurt(data, rng, num_hurt, DAMAGE)


def hurt(data: bytes, rng: random.Random, num_hurt: int, damage: Sequence[bytes]) -> bytes:
    """Replace a few bytes here and there."""
    for _ in range(num_hurt):
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(damage) + data[at + rng.choice([0, 0, 1, 7, 60]) :]
    return data


def facts(log: Log) -> list[tuple[object, ...]]:
    rows = log.rows()
    found: list[tuple[object, ...]] = []
    for row in rows:
        values = [str(round(value, 9)) for value in row.values]
        begun = row.bar and (row.bar[0], row.bar[2], row.offset)  # its last frame so far is known batch by batch
        found.append((row.line, row.keys, row.step, row.axis, row.time, row.origin, row.count, begun, *values))
    events = [entry for entry in log.entries if isinstance(entry, Event)]
    found += [(event.line, event.dialect, event.event, str(event.data)) for event in events]
    return sorted(found, key=repr)


def read(data: bytes, kinds: list[type[Dialect]]) -> Log:
    return read_chunks([data], dialects=kinds)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 6))
@example(4, 35, 2)  # a share beyond what a float holds
def test_engine_lines_by_their_form_are_those_read_one_by_one(seed: int, num_parts: int, num_hurt: int) -> None:
    """Also where the form was learnt from sound lines first."""

    class OneByOne(Engines):
        bulk = b""

    sound = "".join(engine(random.Random(at)) for at in range(200)).encode()  # noqa: S311
    data = sound + damaged(seed, num_parts, num_hurt)
    assert facts(read_chunks([sound, data], dialects=[Engines])) == facts(
        read_chunks([sound, data], dialects=[OneByOne])
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 6))
def test_metric_lines_of_one_layout_are_those_read_one_by_one(seed: int, num_parts: int, num_hurt: int) -> None:
    """Also among sound lines, so many that most are read together."""

    class OneByOne(Verl):
        bulk = b""

    sound = "".join(metrics(random.Random(at)) for at in range(100)).encode()  # noqa: S311
    data = damaged(seed, num_parts, num_hurt) + sound[:5000]
    together = read_chunks([sound, sound, data], dialects=[Verl])
    assert sum(len(rows) for rows in together.bulk) >= 90  # the last line of a batch waits for its rest
    assert facts(together) == facts(read_chunks([sound, sound, data], dialects=[OneByOne]))


def of_one_layout(rng: random.Random) -> str:
    """A line of verl, mostly with the same keys; one of them holds the separator, and values are not always wrapped."""
    step, value = rng.randrange(9), rng.choice([rng.random(), -1e-6, 852, 0.0])
    loss = f"np.float64({value})" if rng.random() < 0.9 else f"{value}"
    lr = rng.choice(["1e-06", "0.000", "1E-6", "5e-324"]) if rng.random() < 0.99 else rng.choice(["nan", "inf"])
    more = " - timing_s/a:b:0.5" if rng.random() < 0.2 else ""
    return RAY.format(role="TaskRunner", pid=3) + f"step:{step} - actor/pg_loss:{loss} - lr(1e-4):{lr}{more}\n"


@settings(max_examples=60, deadline=None)
@example(1422559, 5)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_damaged_lines_among_those_of_one_layout_are_those_read_one_by_one(seed: int, num_hurt: int) -> None:
    """The layouts are known from a sound batch, and the damaged one holds enough of each to be a table."""

    class OneByOne(Verl):
        bulk = b""

    rng = random.Random(seed)  # noqa: S311 - test data
    sound = "".join(of_one_layout(rng) for _ in range(200)).encode()
    data = hurt("".join(of_one_layout(rng) for _ in range(400)).encode(), rng, num_hurt, (*DAMAGE, *DAMAGE_OF_ITEMS))
    together = read_chunks([sound, data], dialects=[Verl])
    assert facts(together) == facts(read_chunks([sound, data], dialects=[OneByOne]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 6))
def test_frames_are_the_same_by_the_loose_and_the_strict_pattern(seed: int, num_parts: int, num_hurt: int) -> None:
    """And all of a batch at once are what one after the other are."""
    data = damaged(seed, num_parts, num_hurt)
    frames = orz_bars.find_frames(data)
    strict = list(orz_bars.STRICT.finditer(data))
    assert list(zip(*frames[1:], strict=True)) == [frame.groups() for frame in strict]
    starts = list(accumulate(map(len, frames.texts), initial=0))
    begun = accumulate(map(len, frames.between))
    assert [start + at for start, at in zip(starts, begun, strict=True)][:-1] == [frame.start() for frame in strict]
    assert b"".join(b"".join(pair) for pair in zip(frames.between, [*frames.texts, b""], strict=True)) == data
    together, alone = Log(), Log()
    batch = Batch(data)
    at_once, one_by_one = (Passes("orz", b"", b"bar/") for _ in range(2))
    taken = [(frame["counter"], frame["postfix"], frame.start()) for frame in strict if frame[5]]
    if taken:
        counters, postfixes, places = (list(column) for column in zip(*taken, strict=True))
        at_once.take_all(counters, Pieces.of(postfixes), places, batch.line_and_offset, together)
    for counter, postfix, place in taken:
        one_by_one.take(counter, postfix, alone, *batch.line_and_offset(place))
    at_once.settle(together)
    one_by_one.settle(alone)
    assert facts(together) == facts(alone)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(0, 3))
def test_frames_by_template_are_those_by_the_pattern(seed: int, num_parts: int, num_hurt: int) -> None:
    """A damaged piece of a log among sound bars: what is found, what is left for others, and what is read of all."""
    sound = "".join(bars(random.Random(at)) for at in range(40))  # noqa: S311
    data = sound.encode() + damaged(seed, num_parts, num_hurt) + sound.encode()
    by_template, by_pattern = Batch(data), Batch(data)
    found, expected = orz_bars.bars_by_template(by_template, b""), orz_bars.bars_by_pattern(by_pattern, b"")
    assert expected is not None
    if found is None:  # a counter of no numbers
        found = orz_bars.bars_by_pattern(by_template, b"")
    assert found is not None
    assert (list(found.postfixes), found.starts.tolist()) == (list(expected.postfixes), expected.starts.tolist())
    assert found.of_actor.tolist() == expected.of_actor.tolist()
    printed = found.counters
    if isinstance(printed, np.ndarray):
        printed = [b"%d/%d" % tuple(both) for both in printed]
    without_zeros = [
        [re.sub(rb"\b0+(?=\d)", b"", counter) for counter in printed] for printed in (printed, expected.counters)
    ]
    assert without_zeros[0] == without_zeros[1]  # `08/16` is the same as a number
    assert by_template.rest() == by_pattern.rest()
    kinds = [find_dialect(place) for place in KNOWN.values()]
    together = facts(read(data, kinds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orz_bars, "bars_by_template", lambda *_: None)
        assert facts(read(data, kinds)) == together


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 6), st.integers(1, 4000))
def test_the_borders_of_batches_do_not_matter(seed: int, num_parts: int, num_hurt: int, size: int) -> None:
    """A line on its own is read as it is among others."""
    data = damaged(seed, num_parts, num_hurt)
    kinds = [find_dialect(place) for place in KNOWN.values()]
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert facts(read_chunks(pieces, dialects=kinds)) == facts(read(data, kinds))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5), st.data())
def test_a_string_that_is_there_is_possible(text: bytes, needles: list[bytes], data: st.DataObject) -> None:
    """Wherever it stands; and none is that shares no word with the text."""
    chosen = data.draw(st.sampled_from(needles))
    at = data.draw(st.integers(0, len(text)))
    assert chosen in Needles(needles).possible(text[:at] + chosen + text[at:])
    assert Needles([b"0123456789"]).possible(text.replace(b"3", b"x")) == set()


PARTS = st.one_of(
    st.just(NUMBER),
    st.just(COUNT),
    st.builds(Until, st.sampled_from([b",", b"]", b"|", b"e"]), st.integers(1, 6)),
    st.sampled_from([b"", b"a", b", ", b"=-", b"]", b"\n", b"1"]),
)
BITS = st.sampled_from(
    [
        *(bytes([byte]) for byte in b"0123456789.eE+-_,] |\n\r\0\xff"),
        b"nan",
        b"inf",
        b"inity",
        b"12345678901234567",
        b"a",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PARTS, max_size=6), st.lists(BITS, max_size=30))
def test_templates_are_read_alike_with_and_without_the_scanner(parts: list[Part], bits: list[bytes]) -> None:
    """From every place of a text of what numbers and gaps are made of: the same ends, gaps, and bits of numbers."""
    text, form = b"".join(bits), Template(parts)
    starts = np.arange(-1, len(text) + 2)
    by_scanner = form.read(text, starts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template, "SCANNER", None)
        alone = form.read(text, starts)
    assert by_scanner.ends.tolist() == alone.ends.tolist()
    fits = alone.ends >= 0
    assert by_scanner.spans[fits].tolist() == alone.spans[fits].tolist()
    assert by_scanner.values[fits].tobytes() == alone.values[fits].tobytes()
