from __future__ import annotations

import json
import logging
import re
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

import orz_train
from orz_monitor.records import EVENTS, EventRecord
from orz_train.runlog.events import jsonable, level, sentence
from orz_train.types import FinishReason

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("expected", "event", "data"),
    [
        ("training for 80 steps", "start", {"steps": 80}),
        ("training for 1 step", "start", {"steps": 1}),
        ("resumed after step 3 from checkpoints/step_000003", "resume", {"path": "checkpoints/step_000003"}),
        ("saved x (6.2 MB, 0.84 s)", "checkpoint_saved", {"path": "x", "bytes": 6.2e6, "seconds": 0.84}),
        (
            "copying x to s3://bucket/run (6.2 MB)",
            "checkpoint_copy_started",
            {"path": "x", "url": "s3://bucket/run", "bytes": 6.2e6},
        ),
        (
            "copied x to s3://bucket/run (6.2 MB, 0.84 s)",
            "checkpoint_copied",
            {"path": "x", "url": "s3://bucket/run", "bytes": 6.2e6, "seconds": 0.84},
        ),
        ("saved checkpoints/x", "checkpoint_saved", {"path": "checkpoints/x"}),
        (
            "evaluation after step 3: sums 0.412",
            "evaluation",
            {"metrics": {"eval/sums/accuracy": 0.412, "eval/sums/truncated_frac": 0.05}},
        ),
        ("left out an update of the critic: nan", "skipped_update", {"role": "critic", "reason": "nan"}),
        (
            "left out an update of the policy: it was not finite, 2 in a row",
            "skipped_update",
            {"role": "policy", "in_a_row": 2, "limit": 3},
        ),
        (
            "free for checkpoints: 10 GB on b, 6.5 TB on a",
            "storage",
            {"storage/free_bytes/a": 6.5e12, "storage/free_bytes/b": 1e10},
        ),
        (
            "free for checkpoints: 1 GB on n1, 2 GB on n2, 3 GB on n3, 4 GB on n4 and 1 more",
            "storage",
            {f"storage/free_bytes/n{i}": i * 1e9 for i in (5, 4, 3, 2, 1)},
        ),
        ("removed what an unfinished save had left: x", "unfinished_save_removed", {"path": "x", "node": "n"}),
        ("left out 7 prompts, longer than data.max_prompt_tokens", "prompts_too_long", {"count": 7}),
        ("low on disk", "warning", {"message": "low on disk"}),
        ("boom", "error", {"message": "boom"}),
        ("finished: converged", "finish", {"reason": "converged"}),
        ("interrupted after step 3", "interrupted", {}),
        ("my event a=1 b=x", "my_event", {"a": 1, "b": "x"}),
        ("my event", "my_event", {}),
    ],
)
def test_each_event_reads_as_a_sentence(expected: str, event: str, data: dict[str, object]) -> None:
    """Known events are told in words, unknown ones with their data."""
    assert expected == sentence(EventRecord(event=event, time=0.0, step=3, data=data))


@pytest.mark.parametrize("event", [*EVENTS, "unheard_of"])
def test_no_event_needs_its_data(event: str) -> None:
    """Every event can be told with nothing known about it."""
    assert sentence(EventRecord(event=event, time=0.0))


def test_every_event_that_the_trainer_writes_is_in_the_contract() -> None:
    """Readers find its meaning in `EVENTS`, whichever module emits it."""
    sources = [path.read_text(encoding="utf-8") for path in Path(orz_train.__file__).parent.rglob("*.py")]
    emitted = {name for source in sources for name in re.findall(r"event\(\s*\"(\w+)\"", source)}
    assert {"start", "resume", "finish", "checkpoint_saved", "checkpoint_removed", "warning"} <= emitted
    assert set() == emitted - EVENTS.keys()


def test_levels_follow_what_a_person_should_see() -> None:
    """Errors, then what went wrong but didn't end the run, then the rest."""
    expected = [logging.ERROR, logging.WARNING, logging.WARNING, logging.INFO, logging.INFO]
    assert expected == [level(name) for name in ("error", "skipped_update", "warning", "start", "unheard_of")]


def test_values_become_what_a_record_holds(tmp_path: Path) -> None:
    """Paths below the run folder are relative to it; enums, exceptions and numpy's numbers become plain."""
    given = {
        "inside": tmp_path / "checkpoints" / "step_000003",
        "outside": Path("/elsewhere/model"),
        "why": FinishReason.LENGTH,
        "error": ValueError("boom"),
        "bare": ValueError(),
        "number": np.float32(0.5),
        "list": (np.int64(3), None, True),
        1: "text",
        "other": PurePosixPath("x"),
    }
    assert {
        "inside": "checkpoints/step_000003",
        "outside": "/elsewhere/model",
        "why": "length",
        "error": "ValueError: boom",
        "bare": "ValueError",
        "number": 0.5,
        "list": [3, None, True],
        "1": "text",
        "other": "x",
    } == (plain := jsonable(given, folder=tmp_path))
    assert isinstance(plain, dict)
    assert "[3, null, true]" == json.dumps(plain["list"])
