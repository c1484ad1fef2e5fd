"""Runs that Weights & Biases wrote offline, without wandb or protobuf."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.stores.base import MOST_PROBLEMS, Points, Problem, Store, choose
from orz_monitor.stores.protobuf import BYTES, VARINT, Field, WireError, fields, signed, text, varint
from orz_monitor.stores.rows import flat_values, parsed
from orz_monitor.stores.wandb_log import read_records

_ENDING: Final = ".wandb"
_MOST_CONSOLE_LINES: Final = 100_000
_OUTPUT_RAW: Final = 13
"""The field of a record whose text may be a part of a line, or many lines."""
_KEY, _NESTED_KEY, _VALUE = 1, 2, 16
"""The fields of an item of a history or a configuration."""
_BOOKKEEPING: Final = frozenset({"_step", "_runtime", "_timestamp", "_wandb"})


def wandb_files(folder: Path) -> dict[str, Path]:
    """Return the `.wandb` files of a run's folder, of a `wandb/` folder or of the folder above it, by run."""
    for pattern in (f"*{_ENDING}", f"*run-*/*{_ENDING}", f"wandb/*run-*/*{_ENDING}"):
        files = sorted(path for path in folder.glob(pattern) if path.is_file())
        if files:
            return {path.stem.removeprefix("run-"): path for path in files}
    return {}


def read_folder(folder: Path, wanted: str | None = None) -> Store:
    """Read the run of a folder.

    Raises:
        UnreadableRunError: no run, several and none was named, or a file that is none.
        OSError: the file can't be read.
    """
    files = wandb_files(folder)
    return read_file(files[choose(folder, list(files), wanted, kind="offline runs of wandb")])


def read_file(path: Path) -> Store:
    """Read one `.wandb` file; what is torn or damaged is told, and the rest is read.

    Raises:
        UnreadableRunError: it is empty, or no `.wandb` file.
        OSError: it can't be read.
    """
    problems: list[Problem] = []
    run = _Run(points=Points(path), name=path.stem.removeprefix("run-"))
    for offset, record in read_records(path, problems):
        try:
            run.take(record)
        except WireError as error:
            problems.append(Problem(file=path, place=f"byte {offset}", message=f"a record that is none: {error}"))
    if not run.points and not run.console and problems:
        raise UnreadableRunError(f"no metric in it; {problems[0]}", remedy="copy the file again when the run is over")
    return Store(
        kind="wandb",
        path=path,
        name=run.name,
        columns=run.points.columns(),
        problems=(*problems[:MOST_PROBLEMS], *run.points.problems),
        restarts=run.points.restarts,
        config=run.config,
        console=tuple("".join(run.console).splitlines()[-_MOST_CONSOLE_LINES:]),
        exit_code=run.exit_code,
        unread=run.points.unread,
    )


@dataclass(kw_only=True, slots=True, eq=False)
class _Run:
    """What the records so far say."""

    points: Points
    name: str
    config: dict[str, object] = field(default_factory=dict)
    console: list[str] = field(default_factory=list)
    exit_code: int | None = None
    rows: int = 0

    def take(self, record: bytes) -> None:
        """Take one record."""
        for found in fields(record):
            match found.number if found.kind == BYTES else -1:
                case 2:
                    self._history(record, found)
                case 4 | 13:
                    self._output(record, found)
                case 5:
                    self._config(record, found)
                case 17:
                    self._run(record, found)
                case 18:
                    self.exit_code = _integer(record, found) or 0
                case _:
                    pass  # summaries, artifacts, usage: nothing that the others don't say

    def _output(self, record: bytes, found: Field) -> None:
        """Take what was printed: a line, or raw text of any extent."""
        line = "".join(text(record, part) for part in _parts(record, found, 3))
        raw = found.number == _OUTPUT_RAW
        self.console.append(line if raw or line.endswith("\n") else f"{line}\n")

    def _run(self, record: bytes, found: Field) -> None:
        """Take what describes the run: its configuration and its name."""
        for part in _parts(record, found, 4):
            self._config(record, part)
        for part in _parts(record, found, 8):
            self.name = text(record, part) or self.name

    def _history(self, record: bytes, found: Field) -> None:
        """Take one row of the history; its step is in the row, or beside it."""
        items = dict(_items(record, found, 1))
        numbers, others = flat_values(items)
        self.points.add_unread(key for key in others if key.partition("/")[0] not in _BOOKKEEPING)
        step = numbers.get("_step")
        for part in _parts(record, found, 2):
            step = float(_integer(record, part) or 0)
        number = int(step) if step is not None and abs(step) < 1 << 62 else self.rows
        self.rows += 1
        time = numbers.get("_timestamp", float("nan"))
        for key, value in numbers.items():
            if key.partition("/")[0] not in _BOOKKEEPING:
                self.points.add(key, number, value, time)

    def _config(self, record: bytes, found: Field) -> None:
        """Take changes of the configuration."""
        for key, value in _items(record, found, 1):
            if key != "_wandb":
                self.config[key] = value


def _integer(record: bytes, found: Field) -> int | None:
    """Return the first field of a message, a signed integer; None where it was left out, as 0 is."""
    for part in fields(record, found.start, found.end):
        if (part.number, part.kind) == (1, VARINT):
            return signed(varint(record, part.start, part.end)[0])
    return None


def _parts(record: bytes, found: Field, number: int) -> Iterator[Field]:
    """Yield the parts of a message that have one number and hold bytes."""
    return (f for f in fields(record, found.start, found.end) if (f.number, f.kind) == (number, BYTES))


def _items(record: bytes, found: Field, number: int) -> Iterator[tuple[str, object]]:
    """Yield keys and values of the items in a message; nested keys are joined by slashes."""
    for item in _parts(record, found, number):
        key, nested, value = "", [], ""
        for part in fields(record, item.start, item.end):
            if part.kind == BYTES and part.number == _KEY:
                key = text(record, part)
            elif part.kind == BYTES and part.number == _NESTED_KEY:
                nested.append(text(record, part))
            elif part.kind == BYTES and part.number == _VALUE:
                value = text(record, part)
        yield key or "/".join(nested), parsed(value)
