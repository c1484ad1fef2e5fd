"""What a person reads of an event."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from numbers import Integral
from pathlib import Path
from typing import SupportsFloat

from orz_monitor.records import EventRecord
from orz_train.runlog.text import duration, number, size

_ACCURACY = re.compile(r"eval/([^/]+)/accuracy")
_FREE_BYTES = "storage/free_bytes/"
_MOST_NODES = 4
"""Nodes named in a line; the fullest come first."""
_OF_CHECKPOINTS = frozenset(
    {"checkpoint_saved", "checkpoint_copy_started", "checkpoint_copied", "storage", "unfinished_save_removed"}
)
_WARNINGS = {"warning", "skipped_update", "prompts_too_long", "interrupted"}


def level(event: str) -> int:
    """Return the logging level of an event's name."""
    if event == "error":
        return logging.ERROR
    return logging.WARNING if event in _WARNINGS else logging.INFO


def sentence(record: EventRecord) -> str:
    """Say in one line what happened."""
    data = {"message": record.event, "path": "a checkpoint", **record.data}
    match record.event:
        case "start":
            steps = data.get("steps", "?")
            text = f"training for {steps} {'step' if steps == 1 else 'steps'}"
        case "resume":
            text = f"resumed after step {record.step} from {data['path']}"
        case event if event in _OF_CHECKPOINTS:
            text = _of_checkpoints(event, data)
        case "evaluation":
            shown = ", ".join(f"{name} {number(value)}" for name, value in accuracies(evaluation_metrics(data)).items())
            text = f"evaluation after step {record.step}: {shown}"
        case "skipped_update":
            text = f"left out an update of the {data.get('role', 'model')}: {data.get('reason', 'it was not finite')}"
            text += f", {data['in_a_row']} in a row" if data.get("in_a_row", 1) != 1 else ""
        case "prompts_too_long":
            text = f"left out {data.get('count', 'some')} prompts, longer than data.max_prompt_tokens"
        case "warning" | "error":
            text = str(data["message"])
        case "finish":
            text = f"finished: {data.get('reason', 'all steps are done')}"
        case "interrupted":
            text = f"interrupted after step {record.step}"
        case other:
            pairs = " ".join(f"{key}={value}" for key, value in record.data.items())
            text = f"{other.replace('_', ' ')} {pairs}".rstrip()
    return text


def _of_checkpoints(event: str, data: Mapping[str, object]) -> str:
    """Say what was written, what was removed, or how much room there is."""
    match event:
        case "checkpoint_saved":
            return f"saved {data['path']}{_cost(data)}"
        case "checkpoint_copy_started":
            return f"copying {data['path']} to {data.get('url', 'a store')}{_cost(data)}"
        case "checkpoint_copied":
            return f"copied {data['path']} to {data.get('url', 'a store')}{_cost(data)}"
        case "storage":
            return f"free for checkpoints: {_free(data)}"
        case _:
            return f"removed what an unfinished save had left: {data['path']}"


def _free(data: Mapping[str, object]) -> str:
    """Return the free space of each node, least first."""
    free = {
        key.removeprefix(_FREE_BYTES): value
        for key, value in data.items()
        if key.startswith(_FREE_BYTES) and isinstance(value, int | float)
    }
    told = [f"{size(free[node])} on {node}" for node in sorted(free, key=free.__getitem__)]
    if not told:
        return "unknown"
    return ", ".join(told[:_MOST_NODES]) + (f" and {len(told) - _MOST_NODES} more" if len(told) > _MOST_NODES else "")


def evaluation_metrics(data: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers of an evaluation's event."""
    metrics = data.get("metrics")
    found = metrics if isinstance(metrics, Mapping) else {}
    return {str(name): float(value) for name, value in found.items() if isinstance(value, int | float)}


def accuracies(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the accuracy of each held-out set by its name."""
    return {found[1]: value for name, value in metrics.items() if (found := _ACCURACY.fullmatch(name))}


def jsonable(value: object, *, folder: Path) -> object:  # noqa: PLR0911  a case for each type
    """Return a value in types that a record holds; a path below the run folder becomes relative to it."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return jsonable(value.value, folder=folder)
        case str():
            return str(value)
        case Path():
            return (value.relative_to(folder) if value.is_relative_to(folder) else value).as_posix()
        case Mapping():
            return {str(key): jsonable(item, folder=folder) for key, item in value.items()}
        case BaseException():
            return f"{type(value).__name__}: {value}" if str(value) else type(value).__name__
        case Sequence() if not isinstance(value, bytes | bytearray):
            return [jsonable(item, folder=folder) for item in value]
        case Integral():  # numbers of numpy's or torch's
            return int(value)
        case SupportsFloat():
            return float(value)
    return str(value)


def _cost(data: Mapping[str, object]) -> str:
    """Write what a checkpoint took, as far as its event says: ` (6.2 MB, 0.84 s)`."""
    num_bytes, seconds = data.get("bytes"), data.get("seconds")
    facts = []
    if isinstance(num_bytes, int | float):
        facts.append(size(num_bytes))
    if isinstance(seconds, int | float):
        facts.append(duration(seconds))
    return f" ({', '.join(facts)})" if facts else ""
