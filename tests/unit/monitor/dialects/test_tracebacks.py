"""Tracebacks of every form end with the exception that they are about, however long they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.loading import load_run
from orz_monitor.reading import Reader
from orz_monitor.run import Run, State

pytestmark = pytest.mark.unit

STEPS = "".join(f"step:{i} - actor/pg_loss:0.5 - critic/score/mean:0.25\n" for i in range(5))
OPENING = "Traceback (most recent call last):\n"
FRAME = '  File "a.py", line 1, in step\n    go()\n'
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 1, in <module>
  |     asyncio.run(main())
  | ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "a.py", line 2, in one
    | OSError: [Errno 28] No space left on device
    +---------------- 2 ----------------
    | Traceback (most recent call last):
    |   File "a.py", line 3, in two
    | ValueError: bad
    +------------------------------------
"""
RICH = """\
╭───────────────────── Traceback (most recent call last) ──────────────────────╮
│ /x/train.py:12 in main                                                       │
│ ❱ 12     raise ValueError('bad')                                             │
╰──────────────────────────────────────────────────────────────────────────────╯
ValueError: bad
"""


def run_of(tmp_path: Path, text: str) -> Run:
    path = tmp_path / "train.log"
    path.write_text(text)
    return load_run(path)


def prefixed(prefix: str, text: str) -> str:
    return "".join(f"{prefix}{line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (OPENING + FRAME + "ValueError: bad\n", "ValueError: bad", 9),
        (RICH, "ValueError: bad", 10),
        (RICH.replace("╭", "+").replace("╮", "+").replace("─", "-").replace("│", "|"), "ValueError: bad", 10),
        (prefixed("(TaskRunner pid=7) ", RICH), "ValueError: bad", 10),
        (
            OPENING + '\n> File "a.py", line 1, in <module>\n    go()\n    └ <function go>\n\nKeyError: 1\n',
            "KeyError: 1",
            12,
        ),
        (
            "[2026-01-01 00:00:00 TP0] Scheduler hit an exception: " + OPENING + FRAME + "KeyError: 2\n",
            "KeyError: 2",
            9,
        ),
        (
            "(Engine pid=7) [2026-01-01 00:00:00 TP0] Scheduler hit an exception: "
            + OPENING
            + prefixed("(Engine pid=7) ", FRAME)
            + "(Engine pid=8) [2026-01-01 00:00:01 TP1] Decode batch. #running-req: 1\n"
            + "(Engine pid=7) [2026-01-01 00:00:01 TP0] Decode batch. #running-req: 1\n"
            + "(Engine pid=7) KeyError: 3\n",
            "KeyError: 3",
            11,
        ),
        (OPENING + FRAME * 3000 + "RecursionError: too deep\n", "RecursionError: too deep", 6007),
        (OPENING + FRAME, "the log ends within a traceback", 6),
        (OPENING + FRAME + "(B pid=7) an hour of others\n" * 1500, "the log ends within a traceback", 6),
    ],
)
def test_a_traceback_at_the_end_of_a_log_is_what_the_run_failed_of(
    tmp_path: Path, text: str, message: str, line: int
) -> None:
    """Its exception is named, with its line; one without an end is told of where it begins."""
    run = run_of(tmp_path, STEPS + text)
    assert State.FAILED is run.state
    end = run.events[-1]
    assert (message, line, "traceback") == (end.data["message"], end.data["line"], end.data["kind"])
    assert 6 == end.data["traceback_line"]


@pytest.mark.parametrize("prefix", ["", "(TaskRunner pid=7) ", "[rank0]: "])
@pytest.mark.parametrize("cut", [None, -1])
def test_a_group_of_exceptions_is_told_by_the_one_with_a_kind(tmp_path: Path, prefix: str, cut: int | None) -> None:
    """Its own words only count the others; with or without its last line, and whoever printed it."""
    text = prefixed(prefix, "\n".join(GROUP.splitlines()[:cut]))
    end = run_of(tmp_path, STEPS + text).events[-1]
    assert ("error", "disk_full", "OSError: [Errno 28] No space left on device") == (
        end.event,
        end.data["kind"],
        end.data["message"],
    )
    inner = run_of(tmp_path, STEPS + text.replace("OSError: [Errno 28] No space left on device", "KeyError: 1"))
    assert "ValueError: bad" == inner.events[-1].data["message"]


def test_what_follows_a_group_is_read_as_any_other_line(tmp_path: Path) -> None:
    """Steps behind it, also behind one that was cut, are steps."""
    for cut in (None, -1, -3):
        run = run_of(tmp_path, "\n".join(GROUP.splitlines()[:cut]) + "\n" + STEPS)
        assert [0, 1, 2, 3, 4] == run.steps.tolist()
        assert State.UNFINISHED is run.state


def test_a_long_traceback_takes_no_memory() -> None:
    """Nothing of it is kept but its last line, whichever way its bytes come."""
    reader = Reader()
    text = (OPENING + FRAME * 20_000 + "RecursionError: too deep\n").encode()
    for start in range(0, len(text), 65_536):
        reader.feed(text[start : start + 65_536])
        assert len(reader.log.entries) <= 1
    (entry,) = reader.close().entries
    assert 40_002 == entry.line


@pytest.mark.parametrize(
    "words",
    [
        "Exception ignored in: <function Foo.__del__ at 0x7f>",
        "Exception ignored in atexit callback: <function x>",
        "Exception ignored while calling deallocator <function Foo.__del__ at 0x7f>:",
        "--- Logging error ---",
    ],
)
@pytest.mark.parametrize("exception", ["AttributeError: 'NoneType' object", "RuntimeError: CUDA error: x"])
def test_an_exception_that_python_ignores_ends_nothing(tmp_path: Path, words: str, exception: str) -> None:
    """It is noted as what it is; the next one, which nobody ignores, is a fault."""
    text = STEPS + words + "\n" + OPENING + FRAME + exception + "\n"
    run = run_of(tmp_path, text)
    assert State.UNFINISHED is run.state
    assert [("notice", "ignored", 10)] == [(e.event, e.data["kind"], e.data["line"]) for e in run.events]
    run = run_of(tmp_path, text + OPENING + FRAME + "ValueError: bad\n")
    assert ("error", "ValueError: bad") == (run.events[-1].event, run.events[-1].data["message"])


@pytest.mark.parametrize(
    "line",
    [
        "The output will be: Traceback (most recent call last): and then some",
        "Here is what Python says: Traceback (most recent call last):",
        "I said Exception ignored in: main",
    ],
)
def test_prose_about_tracebacks_is_none(tmp_path: Path, line: str) -> None:
    """Only a logger's record may have other words before it."""
    assert () == run_of(tmp_path, STEPS + line + "\nValueError: an example\n").events
