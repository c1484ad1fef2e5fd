"""A store of another tool as a run: its columns, and what it says of configuration, output and end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from orz_monitor.dialects import GENERIC, KNOWN, find_dialect, known_dialects
from orz_monitor.log import Event, Log
from orz_monitor.reading import read_chunks
from orz_monitor.records import EventRecord
from orz_monitor.run import Run
from orz_monitor.stitch import stitch
from orz_monitor.stores.base import Store

_MOST_SETTINGS: Final = 1000


def run_of_store(store: Store, path: Path, *, now: float, canonical: bool = True) -> tuple[Run, Log]:
    """Make a run of a store.

    Args:
        store: what was read.
        path: what the user gave.
        now: the time of judging, seconds since the Unix epoch.
        canonical: give metrics our names and units; else those of whoever logged them.

    Returns:
        The run, and the log that it was made of.
    """
    log = Log(columns=list(store.columns))
    for file in dict.fromkeys([*(column.file for column in log.columns), *([store.path] if store.console else [])]):
        log.begin(file)
    log.entries += _said(store)
    log.texts |= {(store.kind, key) for key in store.unread}
    run = stitch(
        log,
        name=store.name or path.resolve().name,
        path=log.files[0].path if log.files else store.path,
        folder=path if path.is_dir() else None,
        now=now,
        dialects=[*known_dialects(), find_dialect(GENERIC)],
        canonical=canonical,
    )
    return replace(
        run,
        restarts=store.restarts or run.restarts,
        problems=tuple(str(problem) for problem in store.problems),
        is_store=True,
        config=_flat(store.config),
        events=_with_end(run, store.exit_code),
    ), log


def _said(store: Store) -> list[Event]:
    """Return the faults that the run's output tells of; they are placed in no file, since its lines are in none."""
    if not store.console:
        return []
    text = "\n".join(store.console).encode("utf-8", errors="replace")
    read = read_chunks([text], dialects=[find_dialect(KNOWN["crashes"])])
    events = [entry for entry in read.entries if isinstance(entry, Event)]
    last = max((int(column.steps[-1]) for column in store.columns if len(column.steps)), default=None)
    for event in events:
        event.line, event.step = 0, last
    return events


def _with_end(run: Run, exit_code: int | None) -> tuple[EventRecord, ...]:
    """Add how the run ended, where the store knows and its output does not say it."""
    step = int(run.steps[-1]) if len(run.steps) else None
    last = run.last_progress
    time = last if last is not None else math.nan
    if exit_code is None or any(event.event in {"error", "interrupted"} for event in run.events if exit_code):
        return run.events
    if exit_code == 0:  # whatever its output tells of did not end it
        kept = tuple(event for event in run.events if event.event not in {"error", "interrupted"})
        return (*kept, EventRecord(event="finish", time=time, step=step))
    message = f"the process left with exit code {exit_code}"
    return (*run.events, EventRecord(event="error", time=time, step=step, data={"message": message}))


def _flat(config: Mapping[str, object], before: str = "") -> dict[str, str]:
    """Return settings by dotted name, as text; lists are left out, as in `settings`."""
    found: dict[str, str] = {}
    for key, value in config.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        elif value is not None and not isinstance(value, list | tuple):
            found[name] = str(value)[:300]
        if len(found) >= _MOST_SETTINGS:
            break
    return found
