from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orz_monitor.records import VERSION
from orz_train import __version__
from orz_train.runlog.console import ConsoleLog, listening
from orz_train.runlog.errors import LogWriteError

pytestmark = pytest.mark.unit

PREFIX = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \| "
LOG = logging.getLogger("orz_train.test_console")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[ConsoleLog]:
    log = ConsoleLog(tmp_path / "console.log")
    yield log
    log.close()


def lines(tmp_path: Path) -> list[str]:
    return (tmp_path / "console.log").read_text(encoding="utf-8").splitlines()


def test_the_first_line_names_program_version_and_contract(console: ConsoleLog, tmp_path: Path) -> None:
    """It stays the first and the only one of its kind when the file is opened again."""
    ConsoleLog(tmp_path / "console.log").close()
    assert [f"orz-train {__version__} | orz_monitor.records v{VERSION} | lines in the shapes of ORZ"] == lines(tmp_path)


def test_a_log_record_becomes_a_line_of_loguru_with_its_fields(console: ConsoleLog, tmp_path: Path) -> None:
    """Level on eight places, module, function, line, message, then `extra` as key=value."""
    with listening(console):
        LOG.info("generated %d", 7, extra={"num_tokens": 12, "reason": "no space left"})
    expected = PREFIX + (
        r"INFO     \| orz_train\.test_console:test_a_log_record_becomes_a_line_of_loguru_with_its_fields:\d+ - "
        r"generated 7 num_tokens=12 reason='no space left'"
    )
    assert re.fullmatch(expected, lines(tmp_path)[1])


def test_private_fields_that_a_library_gives_every_record_are_no_extra(console: ConsoleLog, tmp_path: Path) -> None:
    """Ray, once it is imported, makes records with a field `_ray_timestamp_ns`."""
    factory = logging.getLogRecordFactory()

    def of_ray(*args: Any, **fields: Any) -> logging.LogRecord:
        record = factory(*args, **fields)
        vars(record)["_ray_timestamp_ns"] = 1_700_000_000_000_000_000
        return record

    logging.setLogRecordFactory(of_ray)
    try:
        with listening(console):
            LOG.info("generated", extra={"num_tokens": 12})
    finally:
        logging.setLogRecordFactory(factory)
    assert lines(tmp_path)[1].endswith(" - generated num_tokens=12")


def test_an_exception_is_followed_by_its_traceback(console: ConsoleLog, tmp_path: Path) -> None:
    """The last line of the file is the exception, as monitors expect."""
    with listening(console):
        LOG.error("failed", exc_info=ValueError("boom"))
    written = lines(tmp_path)
    assert written[1].endswith(" - failed")
    assert "ValueError: boom" == written[-1]


def test_a_bad_record_does_not_break_the_code_that_logs(
    console: ConsoleLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told of on stderr, as the standard handlers do, and the next record is written."""

    class Unspeakable:
        def __str__(self) -> str:
            raise ZeroDivisionError

    with listening(console):
        LOG.info("seven", extra={"field": Unspeakable()})
        LOG.info("eight")
    assert "Logging error" in capsys.readouterr().err
    assert lines(tmp_path)[1].endswith(" - eight")


def test_the_run_s_own_lines_name_their_caller(console: ConsoleLog, tmp_path: Path) -> None:
    """As a log record would, with the level of the event."""
    console.say("skipped_update", level=logging.WARNING, data={"step": 3})
    assert re.fullmatch(
        PREFIX + r"WARNING  \| \S*test_runlog_console:test_the_run_s_own_lines_name_their_caller:\d+ - "
        r"skipped_update step=3",
        lines(tmp_path)[1],
    )


def test_loggers_are_left_as_they_were(console: ConsoleLog, tmp_path: Path) -> None:
    """Handlers go, levels come back, also after an exception; other packages were never touched."""
    ours, others = logging.getLogger("orz_train"), logging.getLogger("not_ours")
    before = (ours.level, list(ours.handlers), list(others.handlers))

    def fail() -> None:
        with listening(console):
            assert console in ours.handlers
            assert LOG.isEnabledFor(logging.INFO)
            others.warning("not for this log")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert before == (ours.level, list(ours.handlers), list(others.handlers))
    LOG.warning("too late")
    assert 1 == len(lines(tmp_path))


def test_a_logger_that_wants_more_keeps_its_level(console: ConsoleLog, tmp_path: Path) -> None:
    """DEBUG set by the user stays set; the file still begins at INFO."""
    logger = logging.getLogger("orz_train")
    logger.setLevel(logging.DEBUG)
    try:
        with listening(console):
            LOG.debug("detail")
            assert logging.DEBUG == logger.level
    finally:
        logger.setLevel(logging.NOTSET)
    assert 1 == len(lines(tmp_path))


def test_text_that_is_no_utf8_is_escaped(console: ConsoleLog, tmp_path: Path) -> None:
    """A lone surrogate doesn't cost the line."""
    console.line("bad \ud800")
    assert r"bad \ud800" == lines(tmp_path)[1]


def test_a_full_disk_is_raised_at_the_check_not_where_one_logs(tmp_path: Path) -> None:
    """Logging goes on quietly; `check` raises once for what was lost."""
    path = tmp_path / "console.log"
    path.symlink_to("/dev/full")
    console = ConsoleLog(path)
    with listening(console):
        LOG.info("lost")
    with pytest.raises(LogWriteError, match=r"console\.log: can't be written: No space left"):
        console.check()
    console.check()
    console.close()
    with pytest.raises(LogWriteError):
        console.check()  # closing tried once more


def test_a_place_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    """Opening fails with the name of the path."""
    with pytest.raises(LogWriteError, match="Is a directory"):
        ConsoleLog(tmp_path)
