"""Write a run's table in one of the formats, whole or not at all."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from orz_cli.errors import UsageError
from orz_monitor.export.event_file import write_events
from orz_monitor.export.form import Form
from orz_monitor.publishing import publish
from orz_monitor.table import Table, spread

_PIP_LINE = 'python -m pip install "orz-monitor[parquet]"'


def export(table: Table, form: Form, output: Path) -> Path:
    """Write a table and return the file that was made.

    Args:
        table: the run's values.
        form: the format.
        output: the file, `-` for standard output; for TensorBoard the folder in which an event file is made.

    Raises:
        UsageError: the file can't be written, or what writes it is not installed.
    """
    if form is Form.TENSORBOARD:
        return _export_events(table, output)
    if output.is_dir():
        raise UsageError(f"{output}: is a folder", remedy=f"name the file: --output {output / f'run.{form}'}")
    match form:
        case Form.PARQUET:
            publish(output, lambda path: _write_parquet(table, path))
        case Form.CSV:
            publish(output, lambda path: _write_csv(table, path))
        case Form.JSONL:
            publish(output, lambda path: _write_lines(table, path))
    return output


def _export_events(table: Table, folder: Path) -> Path:
    """Make an event file in a folder of its own: beside others, it would pass for a restart of their run."""
    name = f"events.out.tfevents.{_first_time(table):010d}.orz-monitor"
    others = folder.is_dir() and any("tfevents" in p.name and p.name != name for p in folder.iterdir())
    if str(folder) == "-" or folder.is_file() or others:
        what = "standard output" if str(folder) == "-" else "a folder with other event files" if others else "a file"
        raise UsageError(
            f"{folder}: got {what}, expected a folder for event files",
            remedy="give --output a folder of its own; TensorBoard shows each folder as a run",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder}: can't be made: {error.strerror or error}", remedy="choose another place with --output"
        ) from error
    publish(folder / name, lambda path: write_events(table, path))
    return folder / name


def _first_time(table: Table) -> int:
    """Return when the run began, in whole seconds; 0 where that is not known."""
    known = table.times[np.isfinite(table.times)]
    return max(0, int(known.min())) if len(known) else 0


def _write_csv(table: Table, path: Path) -> None:
    """Write a row a step; a cell without a value is empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "time", *(_cell_safe(column.key) for column in table.columns)])
        for step, time, values in _rows(table):
            shown = ["" if math.isnan(time) else repr(time)]
            writer.writerow([step, *shown, *("" if value is None else repr(value) for value in values)])


def _cell_safe(key: str) -> str:
    """Return a key that no spreadsheet takes for a formula."""
    return f"'{key}" if key.startswith(("=", "+", "-", "@", "\t", "\r")) else key


def _write_lines(table: Table, path: Path) -> None:
    """Write an object a step; numbers that JSON has not are the words of the records contract."""
    keys = [column.key for column in table.columns]
    with path.open("w", encoding="ascii", newline="\n") as file:
        for step, time, values in _rows(table):
            row: dict[str, object] = {"step": step} | ({} if math.isnan(time) else {"time": time})
            for key, value in zip(keys, values, strict=True):
                if value is not None:
                    row[key] = value if math.isfinite(value) else repr(value)
            file.write(json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n")


def _rows(table: Table) -> Iterator[tuple[int, float, list[float | None]]]:
    """Yield each step, its time and its values; None where a key has none."""
    steps = table.steps
    columns = [spread(column, steps) for column in table.columns]
    for index, (step, time) in enumerate(zip(steps.tolist(), table.times.tolist(), strict=True)):
        yield step, time, [float(values[index]) if has[index] else None for values, has in columns]


def _write_parquet(table: Table, path: Path) -> None:
    """Write a column a key; a value that was not logged is null, one that is NaN is NaN."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - for this format only
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise UsageError("parquet needs pyarrow, which is not installed", remedy=_PIP_LINE) from error
    steps, times = table.steps, table.times
    arrays = {"step": pa.array(steps), "time": pa.array(times, mask=np.isnan(times))}
    for column in table.columns:
        values, has = spread(column, steps)
        name = column.key if column.key not in arrays else f"{column.key}_"
        arrays[name] = pa.array(values, mask=~has)
    pq.write_table(pa.table(arrays), path)
