"""Saving while training goes on, with DeepSpeed's ranks in Ray: the same bytes, and a run that goes on from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from orz_monitor.records import EventRecord, StepRecord, read_records

pytestmark = [pytest.mark.e2e, pytest.mark.cluster, pytest.mark.full]


class Result(Protocol):
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


SMALL = (
    "prompts_per_step=4",
    "samples_per_prompt=4",
    "critic.updates_per_step=2",
    "checkpoint.every_steps=2",
    "eval.every_steps=0",
)


def order(run: Path) -> list[str]:
    """Return the steps and the saves of a run in the order in which they were recorded."""
    found = []
    for line in read_records(run / "metrics.jsonl"):
        record = line.record
        if isinstance(record, StepRecord) and record.step:
            found.append(f"step {record.step}")
        elif isinstance(record, EventRecord) and record.event == "checkpoint_saved":
            found.append(f"saved {record.step}")
    return found


def metrics(run: Path, step: int) -> str:
    """Return a step's metrics as written, without what depends on the machine."""
    records = [line.record for line in read_records(run / "metrics.jsonl") if isinstance(line.record, StepRecord)]
    (found,) = [record.metrics for record in records if isinstance(record, StepRecord) and record.step == step]
    return json.dumps({name: value for name, value in found.items() if not name.startswith("memory/")})


def contents(step: Path) -> dict[str, bytes]:
    """Return what a checkpoint holds, without the manifests: these have times in them."""
    files = {path.relative_to(step).as_posix(): path for path in step.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if "manifest" not in name}


def test_the_bytes_are_those_of_a_save_that_waits(orz: Callable[..., Result], tmp_path: Path) -> None:
    """Step 3 is taken before the save of step 2 is committed; weights and state are equal; a resume repeats the run."""
    background = ("checkpoint.asynchronous=true", f"checkpoint.copy_to=file://{tmp_path}/store")
    begun = orz("train", "quickstart", *SMALL, *background, "steps=4", "--run-dir", "background")
    assert 0 == begun.code, begun.stderr
    assert ["step 1", "step 2", "step 3", "saved 2", "step 4", "saved 4"] == order(tmp_path / "background")
    waited = orz("train", "quickstart", *SMALL, "steps=2", "--run-dir", "waited")
    assert 0 == waited.code, waited.stderr
    assert ["step 1", "step 2", "saved 2"] == order(tmp_path / "waited")
    second, last = (Path("checkpoints") / f"step_{step:06d}" for step in (2, 4))
    expected = contents(tmp_path / "waited" / second)
    assert {"policy/model.safetensors", "critic/model.safetensors", "state/policy-rank-1-of-2.pt"} <= expected.keys()
    assert expected == contents(tmp_path / "background" / second)

    command = ("--resume", f"background/{second}", "--run-dir", "branch", "checkpoint.copy_to=null")
    branch = orz("train", *command)
    assert 0 == branch.code, branch.stderr
    assert ["step 3", "step 4", "saved 4"] == order(tmp_path / "branch")
    for step in (3, 4):
        assert metrics(tmp_path / "background", step) == metrics(tmp_path / "branch", step)
    assert contents(tmp_path / "background" / last) == contents(tmp_path / "branch" / last)

    copies = tmp_path / "store" / "background"
    for step in (second, last):
        assert contents(tmp_path / "background" / step) == contents(copies / step)
    whole = orz("ckpt", "verify", str(copies), "--require-manifest")
    assert 0 == whole.code, whole.stdout
