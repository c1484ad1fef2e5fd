"""What a run log warns of: names that nobody registered, and what our packages have to say."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from orz_monitor.records import EventRecord, StepRecord
from orz_train.config.schema import Config
from orz_train.runlog import RunFolder, RunLog
from orz_train.runlog.errors import UnregisteredMetricError
from orz_train.types import StepReport

pytestmark = pytest.mark.component

NUM_STEPS = 4
MakeConfig = Callable[..., Config]
MakeReport = Callable[..., StepReport]
Records = Callable[[Path], list[StepRecord | EventRecord]]


def test_names_that_are_not_registered_raise_in_tests_and_warn_once_in_runs(
    log_in: Callable[..., Path],
    tmp_path: Path,
    streams: dict[str, io.StringIO],
    make_config: MakeConfig,
    make_report: MakeReport,
    records: Records,
) -> None:
    """A long run is not lost to a typo."""
    with pytest.raises(UnregisteredMetricError, match="reward/men is no metric"):
        log_in(lambda log: log.write(make_report(1, **{"reward/men": 1.0})))
    with pytest.raises(UnregisteredMetricError, match="eval/sums/acuracy is no metric"):
        log_in(lambda log: log.event("evaluation", step=1, metrics={"eval/sums/acuracy": 1.0}))
    with (
        RunFolder(make_config(), tmp_path / "loose") as folder,
        RunLog(folder, num_steps=NUM_STEPS, **streams) as log,
    ):
        for step in (1, 2):
            log.write(make_report(step, **{"reward/men": 1.0}))
    assert 1 == streams["stderr"].getvalue().count("warning: reward/men is no metric")
    assert 1.0 == [record.metrics["reward/men"] for record in records(tmp_path / "loose")[1:]][1]


def test_warnings_of_our_packages_reach_the_log_and_the_person(
    log_in: Callable[..., Path], streams: dict[str, io.StringIO]
) -> None:
    """INFO goes to the log only; after the run nobody listens any more."""

    def body(_: RunLog) -> None:
        logging.getLogger("orz_ckpt.storage").warning("slow disk", extra={"seconds": 3})
        logging.getLogger("orz_train.data").info("read", extra={"num_rows": 7})

    path = log_in(body)
    logging.getLogger("orz_train.data").warning("later")
    assert "warning: slow disk\n" == streams["stderr"].getvalue()
    console = (path / "console.log").read_text()
    assert " | WARNING  | orz_ckpt.storage:body:" in console
    assert console.endswith(" - read num_rows=7\n")
