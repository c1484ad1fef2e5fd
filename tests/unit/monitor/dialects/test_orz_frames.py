"""Frames that are found by a template are those that the pattern finds, one byte after the other."""

from __future__ import annotations

import re

import numpy as np
import pytest

from orz_monitor.dialects.orz import bars as orz_bars
from orz_monitor.dialects.orz.bars import STRICT, Bars, bars_by_pattern, bars_by_template, bars_in
from orz_monitor.dialects.orz.dialect import Orz
from orz_monitor.dialects.orz.frames import LABEL, regular_frames
from orz_monitor.reading import read_chunks
from orz_monitor.transport.batch import Batch
from orz_monitor.transport.places import places_of

pytestmark = pytest.mark.unit

PREFIX = "\x1b[36m(PolicyRayActorBase pid=24113)\x1b[0m \r"
FRAME = b"\rActor Train epoch [1/1]:  50%|##| 8/16 [00:10<00:10,  1.25s/it, pg=0.5, kl=1e-3]\r"


def frame(done: int, postfix: str, role: str = "Actor") -> str:
    return f"{role} Train epoch [1/1]:  50%|███▍  | {done}/18 [02:06<00:06,  6.57s/it, {postfix}]"


def sound(role: str, numbers: range) -> str:
    """Return lines as Ray prints them, each postfix twice."""
    postfixes = [f"pg={number}.25, kl=1e-0{number % 9}" for number in numbers]
    return "".join(
        f"{PREFIX}{frame(at, postfix, role)}\r{frame(at + 1, postfix, role)}\n" for at, postfix in enumerate(postfixes)
    )


def expected(text: bytes, last: bytes = b"") -> list[tuple[bool, bytes, bytes, int]]:
    """Return what the pattern of a frame finds one by one, without what is shown again."""
    found = []
    for match in STRICT.finditer(text):
        postfix = match["postfix"] + (b"" if match[5] else b"\n")
        if postfix != last:
            counter = re.sub(rb"\b0+(?=\d)", b"", match["counter"])  # as numbers, both are the same
            found.append((match[2] == b"Actor", counter, postfix, match.start()))
        last = postfix
    return found


def shown(bars: Bars | None) -> list[tuple[bool, bytes, bytes, int]]:
    if bars is None:
        return []
    counters = bars.counters
    texts = [b"%d/%d" % tuple(both) for both in counters] if isinstance(counters, np.ndarray) else counters
    texts = [re.sub(rb"\b0+(?=\d)", b"", text) for text in texts]
    return list(zip(bars.of_actor.tolist(), texts, bars.postfixes, bars.starts.tolist(), strict=True))


def assert_found_alike(text: bytes) -> None:
    """Check what is found by the template, and what is left of the batch, against the pattern's."""
    by_template, by_pattern = Batch(text), Batch(text)
    bars = bars_by_template(by_template, b"")
    if bars is None:
        assert any(not re.fullmatch(rb"\d{1,15}/\d{1,15}", counter) for _, counter, _, _ in expected(text))
        bars = bars_by_pattern(by_template, b"")
    assert shown(bars) == expected(text)
    assert shown(bars_by_pattern(by_pattern, b"")) == expected(text)
    assert by_template.rest() == by_pattern.rest()


def test_parts_of_a_frame_are_where_they_stand() -> None:
    """Two frames of one line, by hand."""
    line = b"so |, ]\n\rCritic Train epoch [1/1]:   4%|#| 1/26 [00:00<00:03,  8.30it/s, a=1]\r" + FRAME[1:]
    found, odd = regular_frames(line, places_of(line, LABEL))
    assert found.labels.tolist() == [line.index(b"Train"), line.rindex(b"Train")]
    parts = list(zip(*(column.tolist() for column in found), strict=True))
    assert [(done, total, line[begin:behind]) for _, done, total, begin, behind, _ in parts] == [
        (1, 26, b"a=1"),
        (8, 16, b"pg=0.5, kl=1e-3"),
    ]
    assert [line[end - 1 : end + 1] for end in found.ends.tolist()] == [b"]\r", b"]\r"]
    assert not len(odd)


def test_each_postfix_is_found_once_and_lines_of_frames_alone_leave_nothing() -> None:
    """Ray's prefixes between frames are taken out with them, and so is nothing else."""
    text = (sound("Critic", range(3)) + "so 1 | 2\n" + sound("Actor", range(2, 5))).encode()
    batch = Batch(text)
    bars = bars_in(batch, b"pg=0.25, kl=1e-00")
    assert bars is not None
    assert bars.of_actor.tolist() == [
        False,
        False,
        True,
        True,
    ]  # the first is known, and the actor's first is the critic's last
    assert [counter for _, counter, _, _ in shown(bars)] == [b"1/18", b"2/18", b"1/18", b"2/18"]
    assert list(bars.postfixes)[2:] == [b"pg=3.25, kl=1e-03", b"pg=4.25, kl=1e-04"]
    assert batch.rest() == f"\nso 1 | 2\n{PREFIX}Actor \n".encode()


@pytest.mark.parametrize(
    "odd",
    [
        frame(3, "pg=7.5, kl=2.5")[:-1],  # torn, and the next is no repetition
        frame(3, "pg=100.25, kl=1e-01")[:-1],  # torn, and the next one repeats it
        frame(3, "pg=7.5, kl=2.5") + "2025-02-21 22:59:11.882 | INFO     | orz.ppo.trainer:train:182 - done",
        "x" + frame(3, "pg=7.5, kl=2.5"),
        frame(3, "pg=7.5, kl=2.5") * 2,
        "Actor Train epoch [1/1]:   0%|          | 0/18 [00:00<?, ?it/s]",
        "Actor Train epoch [" + frame(3, "pg=7.5, kl=2.5"),
        frame(3, "pg=7.5, kl=2.5").replace("3/18", "3 /18"),
        frame(3, "pg=7.5, kl=2.5").replace("3/18", "3"),
        frame(3, "pg=7.5, kl=2.5").replace("3/18", "1234567890/1234567890"),
        frame(3, "pg=7.5, kl=2.5").replace("3/18", "3,0/18"),
        frame(3, "pg=7.5, kl=2.5").replace("3/18", "3/"),
        frame(3, "pg=7.5, kl=2.5").replace("3/18", "/18"),
        frame(3, "pg=7.5, kl=2.5").replace("3/18", "3/1/8"),
        frame(3, "pg=7.5, kl=2.5").replace("[02:06<00:06", f"[{'0' * 40}"),
        frame(3, "pg=7.5, kl=2.5").replace("[02:06<00:06", f"[{'0' * 41}"),
        frame(3, "pg=7.5, kl=2.5").replace("[02:06<00:06", "["),
        frame(3, "pg=7.5, kl=2.5").replace("  6.57s/it", f"{'6' * 36}s/it"),
        frame(3, "pg=7.5, kl=2.5").replace("  6.57s/it", f"{'6' * 37}s/it"),
        frame(3, "pg=7.5, kl=2.5").replace("s/it", "s/is"),
        frame(3, "pg=7.5, kl=2.5").replace(":  50%", "x" * 96),
        frame(3, "pg=7.5, kl=2.5").replace(":  50%", "x" * 97),
        frame(3, "pg=7.5, kl=2.5").replace("███▍  ", "#" * 1000),
        frame(3, "pg=7.5, kl=2.5").replace("███▍  ", "#" * 1001),
        frame(3, "pg=7.5, kl=2.5").replace("███▍  ", ""),
        frame(3, "pg=" + "7" * 3997),
        frame(3, "pg=" + "7" * 3998),
        frame(3, "pg=" + "7" * 4000 + frame(4, "pg=5")),
        frame(3, ""),
        frame(3, "pg=7|5, |=2.5"),
        frame(3, "pg=7]5, kl=2.5"),
        frame(3, "pg=7\n5, kl=2.5"),
        "Xctor Train epoch [" + frame(3, "pg=7.5, kl=2.5")[19:],
        "Train epoch [" + frame(3, "pg=7.5, kl=2.5")[19:],
        "Actor Train epoch [|||]\nActor Train epoch [||]\nActor Train epoch [|| 1/2 [,,]",
    ],
)
@pytest.mark.parametrize("behind", ["\r", "\n", ""])
def test_an_odd_frame_among_regular_ones_is_read_as_by_the_pattern(odd: str, behind: str) -> None:
    """Whatever stands next to it, and at the ends of the text."""
    before, after = sound("Critic", range(40)), sound("Actor", range(100, 140))
    for text in (f"{before}{PREFIX}{odd}{behind}", f"{odd}{behind}{after}"):
        assert_found_alike(text.encode())
        assert_found_alike((text + after.removeprefix(PREFIX)).encode())


def test_a_byte_that_is_another_changes_what_it_changes_for_the_pattern() -> None:
    """Each byte of a frame is replaced by each that means something, is doubled, and is left out."""
    others = (sound("Actor", range(40)).encode(), sound("Actor", range(60, 80)).encode())
    assert len(expected(others[0] + FRAME + others[1])) == 61
    for at in range(len(FRAME)):
        for other in (b"", b"\r", b"\n", b"]", b"[", b"|", b",", b" ", b"x", b"0", FRAME[at : at + 1] * 2):
            assert_found_alike(others[0] + FRAME[:at] + other + FRAME[at + 1 :] + others[1])


@pytest.mark.parametrize("text", [b"\n", b"]\n", b"|]\n", b"\n||]\n", b"x||]", b"||]\n" * 99, b"Train epoch [\n"])
def test_a_text_without_frames_has_none(text: bytes) -> None:
    """However short it is, and where the marks of a frame stand without one."""
    assert not len(regular_frames(text, places_of(text, LABEL))[0].labels)
    assert bars_by_template(Batch(text), b"") is None


def test_where_odd_frames_are_many_the_pattern_finds_all() -> None:
    """A terminal so narrow that no frame has an end."""
    text = "".join(f"{PREFIX}{frame(at, f'pg={at}.5, kl=0.2')[:-1]}\r" for at in range(90)) + sound("Actor", range(9))
    assert bars_by_template(Batch(text.encode()), b"") is None
    assert shown(bars_in(Batch(text.encode()))) == expected(text.encode())


def rows_of(text: str, *, by_template: bool) -> list[tuple[object, ...]]:
    """Read a log, and return its rows with where and how their passes begin and end."""
    with pytest.MonkeyPatch.context() as patch:
        if not by_template:
            patch.setattr(orz_bars, "bars_by_template", lambda *_: None)
        rows = read_chunks([text.encode()], dialects=[Orz]).rows()
    return [
        (row.line, row.offset, row.bar, row.count, row.keys, [f"{value:.9g}" for value in row.values]) for row in rows
    ]


def test_a_total_that_changes_within_a_pass_does_not_end_it() -> None:
    """The pass goes on under the total that it began with, and the next one has its own."""
    text = (
        sound("Actor", range(3)) + f"{frame(4, 'pg=9, kl=1').replace('4/18', '4/20')}\n" + sound("Actor", range(5, 7))
    )
    rows = rows_of(text, by_template=True)
    assert [(row[0], row[2], row[3]) for row in rows] == [(1, (0, 4, 18), 4), (5, (0, 1, 18), 2)]
    assert rows == rows_of(text, by_template=False)


@pytest.mark.parametrize(
    "other",
    [
        "pg=7.5, kl=2.5, ent=0.5",
        "pg=7.5",
        "kl=7.5, pg=2.5",
        "pg=nan, kl=-inf",
        "pg=np.float64(7.5), kl=2.5",
        "pg=7, 5=1",
    ],
)
def test_keys_and_values_that_change_within_a_batch_are_read_as_by_the_pattern(other: str) -> None:
    """In the middle of a pass, and from its beginning on."""
    text = sound("Critic", range(9)) + sound("Actor", range(9)) + f"{frame(9, other)}\n" + sound("Actor", range(20, 29))
    rows = rows_of(text + sound("Critic", range(9)).replace("kl=", "lr="), by_template=True)
    assert rows == rows_of(text + sound("Critic", range(9)).replace("kl=", "lr="), by_template=False)
    assert len(rows) >= 4
