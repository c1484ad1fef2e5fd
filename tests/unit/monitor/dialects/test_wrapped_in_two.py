"""Metric lines of verl that are all broken in two, within a number; their colours; and a line that may go on."""

from __future__ import annotations

import pytest

from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.log import Log
from orz_monitor.reading import Reader, read_chunks

pytestmark = pytest.mark.unit

PLAIN = "(TaskRunner pid=123) "
CYAN = "\x1b[36m(TaskRunner pid=123)\x1b[0m "
YELLOW = "\x1b[33m(TaskRunner pid=123)\x1b[0m "
LOSSES = [0.5, 0.25, -0.125, 0.0625, 0.5, -0.25, 0.125, 1.5]


def values(log: Log) -> list[tuple[int | None, dict[str, float]]]:
    return [(row.step, dict(zip(row.keys, row.values, strict=True))) for row in log.rows()]


def read(text: str) -> Log:
    return read_chunks([text.encode()], dialects=[Verl])


def broken(width: int, losses: list[float], key: str = "actor/entropy") -> tuple[str, list[dict[str, float]]]:
    """Return steps that a terminal has broken within their last number, and what they say."""
    lines, expected = "", []
    for step, loss in enumerate(losses, start=1):
        entropy = 0.123456789012345 + step
        line = f"step:{step} - actor/pg_loss:{loss} - {key}:{entropy!r}"
        lines += f"{line[:width]}\n{line[width:]}\n"
        expected.append({"actor/pg_loss": loss, key: entropy})
    return lines, expected


def test_four_lines_of_one_length_show_the_width() -> None:
    """What stands before the number has three lengths; the first four lack it, and are counted; all others have it."""
    text, expected = broken(50, LOSSES)
    log = read(text)
    whole = [(step, said) for step, said in enumerate(expected, start=1)]
    assert values(log)[:4] == [(step, {"actor/pg_loss": said["actor/pg_loss"]}) for step, said in whole[:4]]
    assert values(log)[4:] == whole[4:]
    assert log.files[0].num_missed_lines == 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (broken(50, [0.5] * 8)[0], "what stands before the number always has one length"),
        (broken(50, LOSSES[:2])[0] + broken(49, LOSSES[2:])[0], "there are two lengths"),
        (broken(38, LOSSES, "kl")[0], "no terminal is as narrow"),
        (f"step:0 - a:1 - b:2{0:060}\n- Answer:42\n{broken(50, LOSSES)[0]}", "a longer line was not broken"),
    ],
    ids=lambda value: value if " " in value and ":" not in value else "",
)
def test_lines_that_may_be_of_one_length_by_chance_lack_the_number(text: str, why: str) -> None:
    """It is in none of them, and each is counted."""
    log = read(text)
    assert [keys for _, said in values(log)[-8:] for keys in said] == ["actor/pg_loss"] * 8, why
    assert log.files[0].num_missed_lines == 8


def test_a_longer_line_takes_back_what_was_shown() -> None:
    """From it on no line is put together any more."""
    text, _ = broken(50, LOSSES)
    long = f"step:9 - actor/pg_loss:0.5 - actor/entropy:0.5{0:030}\n"
    later, _ = broken(50, LOSSES[:1])
    assert "actor/entropy" not in values(read(text + long + later))[-1][1]


@pytest.mark.parametrize(("first", "second"), [(CYAN, YELLOW), (YELLOW, CYAN), (YELLOW, PLAIN), (PLAIN, CYAN)])
def test_a_rest_of_another_colour_is_a_rest(first: str, second: str) -> None:
    """Also among whole lines, which are read many at once: it is counted, or put behind a key that it completes."""
    whole = "".join(f"{first}step:{step} - a/b:{step} - actor/lr:1e-06\n" for step in range(1, 9))
    for _ in range(2):
        log = read(f"{whole}{first}step:9 - a/b:9 - actor/lr:1\n{second}e-06 - x:3\n{whole}")
        assert values(log)[8] == (9, {"a/b": 9})
        assert log.files[0].num_missed_lines == 1
    log = read(f"{whole}{first}step:9 - a/b:9 - actor/l\n{second}r:1e-06\n{whole}")
    assert values(log)[8] == (9, {"a/b": 9, "actor/lr": 1e-6})
    assert log.files[0].num_missed_lines == 0


@pytest.mark.parametrize("colours", ["\x1b[33m{}\x1b[0m", "\x1b[1m\x1b[31m{}\x1b[0m"])
def test_a_coloured_rest_without_a_prefix_is_a_rest(colours: str) -> None:
    rest = colours.format("e-06 - x:3")
    log = read(f"{CYAN}step:1 - a/b:9 - actor/lr:1\n{rest}\n{CYAN}step:2 - a/b:9\n" * 4)
    assert [said for _, said in values(log)] == [{"a/b": 9}] * 8
    assert log.files[0].num_missed_lines == 4


KEYS = "step:{} - actor/pg_loss:0.5 - critic/score/mean:{} - timing_s/step:{}"


def shown_after_each(lines: list[str]) -> list[dict[str, float]]:
    """Return what the last row says after each line, as somebody who watches sees it."""
    reader = Reader(dialects=[Verl])
    found = []
    for line in lines:
        reader.feed(f"{line}\n".encode())
        found.append(values(reader.log)[-1][1])
    return found


def test_a_value_that_may_go_on_is_not_shown() -> None:
    """The first line's last value is there with the next line; later ones are at once, if no line is as short."""
    lines = [KEYS.format(1, 0.75, 12.25), KEYS.format(2, 0.5, 13.5), KEYS.format(3, 0.25, 14.125)]
    shown = shown_after_each([lines[0], "Saving", lines[1], lines[2], "Saving"])
    assert [said.get("timing_s/step") for said in shown] == [None, 12.25, 13.5, None, 14.125]
    assert [said.get("critic/score/mean") for said in shown] == [0.75, 0.75, 0.5, 0.25, 0.25]


def test_lines_of_one_length_are_shown_whole_from_the_third_on() -> None:
    """One may just fill the width; two don't by chance."""
    shown = shown_after_each([KEYS.format(step, 0.75, 12.25) for step in range(1, 5)])
    assert [said.get("timing_s/step") for said in shown] == [None, None, 12.25, 12.25]


def test_a_value_whose_rest_comes_late_is_never_shown_cut() -> None:
    """In a log of whole lines, of which the first is cut."""
    shown = shown_after_each(["step:1 - actor/pg_loss:0.5 - critic/score/mean:0.0", "312 - x:3", "Saving"])
    assert shown == [{"actor/pg_loss": 0.5}] * 3


def test_a_wrapped_line_is_shown_when_its_last_piece_is_there() -> None:
    """Once the log has shown its width; before, with the next line."""
    lines = [KEYS.format(step, 0.123456789012345, 12.0 + step) for step in range(1, 4)]
    pieces = [line[at : at + 40] for line in lines for at in range(0, len(line), 40)]
    reader, shown = Reader(dialects=[Verl]), []
    for piece in pieces:
        reader.feed(f"{piece}\n".encode())
        shown.append({step: len(said) for step, said in values(reader.log)})
    assert len(pieces) == 9
    assert shown[3:] == [{1: 3}, {1: 3}, {1: 3, 2: 3}, {1: 3, 2: 3}, {1: 3, 2: 3}, {1: 3, 2: 3, 3: 3}]
