"""TensorBoard event files, without TensorFlow, TensorBoard or protobuf."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.log import Column
from orz_monitor.stores.base import MOST_KEYS, MOST_PROBLEMS, Problem, Store, choose
from orz_monitor.stores.events import Scalars, read_scalars
from orz_monitor.stores.tfrecord import read_windows
from orz_monitor.units import counted

_MARK: Final = "tfevents"
_DEEPEST: Final = 4
"""Levels of folders below the given one in which runs are looked for."""
_FAR: Final = 1 << 62


def event_files(folder: Path) -> list[Path]:
    """Return the event files of a folder, in the order in which they were begun."""
    files = [path for path in folder.iterdir() if _MARK in path.name and path.is_file()]
    return sorted(files, key=lambda path: (_begun(path), path.name))


def runs_below(folder: Path, *, deepest: int = _DEEPEST) -> dict[str, Path]:
    """Return the folders with event files at and below a folder, by their path from it."""
    found = {}
    level = [folder]
    for _ in range(deepest + 1):
        for place in level:
            if event_files(place):
                found[place.relative_to(folder).as_posix()] = place
        level = [child for place in level for child in sorted(place.iterdir()) if child.is_dir()]
    return found


def read_folder(folder: Path, wanted: str | None = None) -> Store:
    """Read the event files of one run.

    Several files in a folder are restarts: what a later file says of a tag undoes the earlier from that step on.

    Args:
        folder: a folder with event files in it or below it.
        wanted: the run, as a path from `folder`, where there are several.

    Raises:
        UnreadableRunError: no run, or several and none was named.
        OSError: a file can't be read.
    """
    runs = runs_below(folder)
    chosen = runs[choose(folder, sorted(runs), wanted, kind="TensorBoard event files")]
    return read_files(event_files(chosen), path=folder, name=chosen.resolve().name)


def read_files(files: Sequence[Path], *, path: Path, name: str) -> Store:
    """Read event files of one run, in the order in which they were begun.

    Raises:
        OSError: a file can't be read.
    """
    tags: dict[bytes, _Tag] = {}
    problems: list[Problem] = []
    first_steps: list[tuple[int, int]] = []
    for file in files:
        found = _scalars(file, problems, known=tags.keys())
        steps = [tags.setdefault(tag, _Tag()).take(file, parts) for tag, parts in found.items()]
        if steps:
            first_steps.append((min(first for first, _ in steps), max(last for _, last in steps)))
    columns = [tags[tag].column(tag.decode("utf-8", errors="replace")) for tag in sorted(tags)]
    return Store(
        kind="tensorboard",
        path=path,
        name=name,
        columns=tuple(columns),
        problems=tuple(problems[:MOST_PROBLEMS]),
        restarts=_restarts(first_steps),
    )


@dataclass(kw_only=True, slots=True, eq=False)
class _Tag:
    """The points of one tag over the files: what a later file says undoes the earlier from its first step on."""

    steps: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    times: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    file: Path = field(default_factory=Path)

    def take(self, file: Path, parts: list[Scalars]) -> tuple[int, int]:
        """Take the points of one file, and return their first and last step."""
        steps = np.concatenate([part.steps for part in parts])
        places = np.concatenate([part.places for part in parts])
        order = np.lexsort((places, steps))
        steps = steps[order]
        last_of_step = np.append(steps[1:] != steps[:-1], True)  # where a step is repeated, the later one
        order, steps = order[last_of_step], steps[last_of_step]
        kept = self.steps < steps[0]
        self.steps = np.concatenate([self.steps[kept], steps])
        self.times = np.concatenate([self.times[kept], np.concatenate([part.times for part in parts])[order]])
        self.values = np.concatenate([self.values[kept], np.concatenate([part.values for part in parts])[order]])
        self.file = file
        return int(steps[0]), int(steps[-1])

    def column(self, key: str) -> Column:
        """Return the points as a column."""
        return Column(key=key, steps=self.steps, values=self.values, times=self.times, file=self.file)


def _scalars(file: Path, problems: list[Problem], *, known: Collection[bytes]) -> dict[bytes, list[Scalars]]:
    """Read one file's scalars, by tag; of tags that are not known, as many as there is room for."""
    found: dict[bytes, list[Scalars]] = {}
    left_out = 0
    for scalars in _read(file, problems):
        if scalars.tag in found or scalars.tag in known or len(found) + len(known) < MOST_KEYS:
            found.setdefault(scalars.tag, []).append(scalars)
        else:
            left_out += len(scalars.steps)
    if left_out:
        message = f"{counted(left_out, 'value')} left out, of tags beyond the first {MOST_KEYS}"
        problems.append(Problem(file=file, place="tags", message=message))
    return found


def _read(file: Path, problems: list[Problem]) -> Iterator[Scalars]:
    """Yield one file's scalars in no order."""
    damaged: list[tuple[int, str]] = []
    for window in read_windows(file, problems):
        yield from read_scalars(window, damaged)
    problems += [Problem(file=file, place=f"byte {place}", message=what) for place, what in sorted(damaged)]


def _restarts(spans: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return the first step of each file that goes back behind the end of those before it."""
    restarts, last = [], -_FAR
    for first, end in spans:
        if first <= last:
            restarts.append(first)
        last = end
    return tuple(restarts)


def _begun(path: Path) -> int:
    """Return when a file was begun, from the seconds in its name; 0 where there are none."""
    digits = path.name.partition(f"{_MARK}.")[2].partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0  # noqa: PLR2004
