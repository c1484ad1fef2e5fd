"""What is known about a run besides its curves: where it came from, how far it got, what it cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from orz_monitor.covered import spent, steps_covered
from orz_monitor.run import Run
from orz_monitor.settings import CONFIG_FILE

_SCALAR: Final = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][\w.-]*):(?: +(?P<value>.*?))?\s*$")
_SHOWN_FIRST: Final = (
    "name",
    "recipe",
    "backend",
    "seed",
    "algorithm.kind",
    "policy.model",
    "prompts_per_step",
    "samples_per_prompt",
    "policy.updates_per_step",
    "critic.updates_per_step",
    "policy.optimizer.lr",
    "critic.optimizer.lr",
    "kl.loss_coef",
    "kl.reward_coef",
    "kl.estimator",
    "generation.temperature",
    "generation.max_response_tokens",
)
"""The settings people compare first."""
_NULLS: Final = {"null", "~"}
_LARGEST_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known about a run.

    Attributes:
        title: name of the configuration, or of the folder.
        started: when its first record was written, UTC; None where no record has a time.
        wall_s: seconds from the first record to the last.
        train_s: seconds spent in steps, also in those between the logged ones; 0 where no step says its seconds.
        num_steps: steps that were trained, also those between the logged ones.
        tokens_trained: action tokens in all, or None where not logged.
        tokens_per_second: of the whole run, or None.
        checkpoints: steps with a committed checkpoint.
        settings: settings worth seeing first, dotted name to text.
        environment: versions and hardware, dotted name to text.
    """

    title: str
    started: datetime | None
    wall_s: float
    train_s: float
    num_steps: int
    tokens_trained: float | None
    tokens_per_second: float | None
    checkpoints: tuple[int, ...]
    settings: Mapping[str, str]
    environment: Mapping[str, str]

    @property
    def took_s(self) -> float | None:
        """Seconds that the steps took, by the trainer or by the clock; None where the log has neither."""
        return self.train_s or self.wall_s or None


def gather_facts(run: Run) -> Facts:
    """Collect the facts of a run from its records, `config.yaml` and `environment.json`."""
    config = _block_scalars(_text(run.folder, CONFIG_FILE))
    start = next((event.data for event in run.events if event.event == "start"), {})
    times = run.moments
    trained = run.series("tokens/trained")
    tokens = float((trained.values * steps_covered(trained.steps)).sum()) if len(trained) else None
    train_s = float(spent(run, "total").sum()) if "total" in run.seconds else 0.0
    return Facts(
        title=config.get("name") or str(start.get("recipe") or run.name),
        started=_as_date(min(times)) if times else None,
        wall_s=max(times) - min(times) if times else 0.0,
        train_s=train_s,
        num_steps=int(steps_covered(run.steps).sum()),
        tokens_trained=tokens,
        tokens_per_second=tokens / train_s if tokens is not None and train_s > 0 else None,
        checkpoints=tuple(sorted(set(run.marks("checkpoint_saved")))),
        settings={key: config[key] for key in _SHOWN_FIRST if key in config},
        environment=dict(_environment(_text(run.folder, "environment.json"))),
    )


def last_checkpoint_before(facts: Facts, step: int | None) -> int | None:
    """Return the last step with a checkpoint before a step; None if there is none."""
    return max((saved for saved in facts.checkpoints if step is not None and saved < step), default=None)


def _text(folder: Path | None, name: str) -> str:
    """Read a file of the run folder; empty where there is none, or none that a person wrote."""
    path = folder / name if folder is not None else None
    if path is None or not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _as_date(seconds: float) -> datetime | None:
    """Turn seconds since the epoch into a date, where the calendar has one."""
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _block_scalars(text: str) -> dict[str, str]:
    """Read the plain scalars of block-style YAML mappings, by dotted name; anything else is passed over."""
    scalars: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = _SCALAR.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        value = match["value"] or ""
        if value in _NULLS:
            continue
        if value:
            scalars[".".join([*(key for _, key in parents), match["key"]])] = value.strip("'\"")
        else:
            parents.append((indent, match["key"]))
    return scalars


def _environment(text: str) -> Iterator[tuple[str, str]]:
    """Flatten environment.json into dotted names; nothing where it is damaged."""
    try:
        loaded = json.loads(text) if text else {}
    except ValueError:
        return
    yield from _flattened(loaded, "")


def _flattened(value: object, name: str) -> Iterator[tuple[str, str]]:
    """Yield the scalars below a value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flattened(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        if value:
            yield name, ", ".join(str(item) for item in value[:20])
    elif value is not None and value != "":
        yield name, str(value)
