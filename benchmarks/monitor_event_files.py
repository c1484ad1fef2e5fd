"""How long event files take to read, beside TensorBoard's own reader in Python, on which tbparse is built.

    python benchmarks/monitor_event_files.py [--scalars 1000000] [--tags 100] [--out FILE.md]

Every value is compared with what the generator wrote. tbparse is timed, too, where it can be imported, as in `nox -s
full-monitor -- --only event_files`, which installs it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from result_page import Measured, made_by, write_measured
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from orz_monitor.stores import open_store

INTRODUCTION = """\
An event file of {scalars:,} scalars of {tags} tags, {size:.0f} MB, an event a value as trainers write them, in the
page cache. Times are of the wall clock, orz monitor's the best of {repeats}; every value that it reads is compared with
what was written. TensorBoard's reader is its `EventAccumulator`, in Python, without TensorFlow and without sampling."""
WITH_TBPARSE = "tbparse, version {version}, makes a table of pandas of what TensorBoard's reader returns."
WITHOUT_TBPARSE = "tbparse, which reads through TensorBoard's reader, is not installed here and was not compared with."
LEAST_RATIO = 10.0
REPEATS = 3


def main() -> int:
    """Write the page; return 1 below the ratio that is promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scalars", type=int, default=1_000_000)
    parser.add_argument("--tags", type=int, default=100)
    parser.add_argument("--out", type=Path, help="a Markdown file; by default stdout")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = generate(folder, arguments.scalars // arguments.tags, arguments.tags)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        ours = min(timed(lambda: ours_reads(folder, truth)) for _ in range(REPEATS))
        theirs = timed(lambda: tensorboard_reads(folder, truth))
        parsed = timed(lambda: tbparse_reads(folder, truth)) if has_tbparse() else None
    measured = [
        Measured(what="orz monitor", value=ours, unit="s"),
        Measured(what="TensorBoard's reader", value=theirs, unit="s"),
        Measured(what="as fast as TensorBoard's reader", value=theirs / ours, unit="times", least=LEAST_RATIO),
    ]
    if parsed is not None:
        measured.append(Measured(what="tbparse", value=parsed, unit="s"))
        measured.append(Measured(what="as fast as tbparse", value=parsed / ours, unit="times", least=LEAST_RATIO))
    about = INTRODUCTION.format(scalars=truth.size, tags=arguments.tags, size=size, repeats=REPEATS)
    about += "\n" + (WITHOUT_TBPARSE if parsed is None else WITH_TBPARSE.format(version=version("tbparse")))
    packages = ["tensorboard", *(["tbparse", "pandas"] if parsed is not None else [])]
    made = made_by("python benchmarks/monitor_event_files.py", *packages)
    return write_measured("How fast orz monitor reads event files", f"{made}\n\n{about}", measured, arguments.out)


def generate(folder: Path, steps: int, tags: int) -> NDArray[np.float32]:
    """Write an event file as trainers do, an event a value, and return the values [steps, tags]."""
    values = np.random.default_rng(0).standard_normal((steps, tags)).astype(np.float32)
    with (folder / "events.out.tfevents.1700000000.host.1.0").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=1.7e9, file_version="brain.Event:2").SerializeToString())
        for step, row in enumerate(values.tolist()):
            for tag, value in enumerate(row):
                summary = Summary(value=[Summary.Value(tag=tag_name(tag), simple_value=value)])
                writer.write(Event(wall_time=1.7e9 + step, step=step, summary=summary).SerializeToString())
    return values


def tag_name(index: int) -> str:
    """Return the name of a tag, of a length that differs as in real runs."""
    return f"{('actor', 'critic', 'perf', 'response_length')[index % 4]}/metric_{index}"


def timed(read: Callable[[], object]) -> float:
    """Return the wall time of one call, in seconds."""
    begin = time.perf_counter()
    read()
    return time.perf_counter() - begin


def ours_reads(folder: Path, truth: NDArray[np.float32]) -> None:
    """Read with orz-monitor, and stop where a value is wrong."""
    store = open_store(folder)
    if store is None or store.problems:
        raise SystemExit("void: the file was not read whole")
    for index in range(truth.shape[1]):
        if not np.array_equal(store.column(tag_name(index)).values, truth[:, index]):
            raise SystemExit(f"void: {tag_name(index)} differs from what was written")


def has_tbparse() -> bool:
    """Return whether tbparse can be imported, which is no dependency of ours."""
    return importlib.util.find_spec("tbparse") is not None


def tbparse_reads(folder: Path, truth: NDArray[np.float32]) -> None:
    """Read with tbparse, which makes a table of all values."""
    reader: Any = importlib.import_module("tbparse").SummaryReader
    if len(reader(str(folder)).scalars) != truth.size:
        raise SystemExit("void: tbparse did not read the file whole")


def tensorboard_reads(folder: Path, truth: NDArray[np.float32]) -> None:
    """Read with TensorBoard, without its sampling."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    if len(accumulator.Scalars(tag_name(0))) != len(truth):
        raise SystemExit("void: TensorBoard did not read the file whole")


if __name__ == "__main__":
    sys.exit(main())
