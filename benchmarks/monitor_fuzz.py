"""Feeds bytes that libFuzzer makes up to what reads logs and stores: nothing may be raised but our own errors.

    python benchmarks/monitor_fuzz.py log|store|records [-max_total_time=60] [CORPUS_FOLDER]

A log is read by all dialects together, or by one alone, as its first byte chooses; now and then a part of it is
repeated: what takes time by the square of that does not end within the limit. `monitor_hostile.py` runs all three for a
while. Needs atheris, which is not among the packages of every session: install it beside them (`pip install --no-deps
--target FOLDER -r requirements/full-monitor.txt`, PYTHONPATH=FOLDER). Exceptions stop it and leave the bytes in
`crash-*`; so does an input that takes over twenty seconds, in `timeout-*`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris
from fuzzing import fuzz, grown

with atheris.instrument_imports(include=["orz_monitor"]):
    from orz_cli.errors import OrzError
    from orz_monitor.dialects import GENERIC, KNOWN, ORZ_TRAIN, find_dialect, known_dialects, with_fallback
    from orz_monitor.reading import Reader
    from orz_monitor.stitch import stitch
    from orz_monitor.stores import open_store
    from orz_monitor.tail.records_reader import RecordsReader

    DIALECTS = known_dialects()  # imported now, with everything else
    ALONE = [find_dialect(place) for place in (*KNOWN.values(), GENERIC, ORZ_TRAIN)]

SLOWEST_S = 20
"""An instrumented reader on a busy machine is slow; what is quadratic takes far longer."""
LONGEST = 1 << 15
GROWN_BYTES = 1 << 18
SHORT = 400
"""Bytes of the logs that a dialect reads alone at first: of short ones more are tried, and more of each is changed."""
READERS = [DIALECTS, with_fallback(DIALECTS), *([kind] for kind in ALONE)]
"""With what a log may be read: all, all after none of them found a number, and each alone."""
_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
_STORES = ("events.out.tfevents.1.host", "run-a.wandb", "metrics.csv", "metrics.jsonl", "mlflow.db", "trackio.db")
_SEEDS = {
    "records": (b'{"v":1,"kind":"step","step":1,"time":0.5,"metrics":{"reward/mean":0.25},"seconds":{}}\n',),
    "store": (b"\x01step,loss\n1,0.5\n", b'\x02{"step": 1, "loss": 0.5}\n'),
}
"""What the fuzzer begins with, each with the shape of something real."""


def seeds(name: str) -> Iterable[bytes]:
    """Return what the fuzzer begins with; of logs, those of the dialects' tests, for all dialects and for each alone.

    Raises:
        CalledProcessError: those tests fail.
    """
    if name != "log":
        return _SEEDS[name]
    folder = _FOLDER / "golden"
    folder.mkdir()
    command = [sys.executable, str(Path(__file__).with_name("golden_logs.py")), str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # another process, whose modules are as they are
    logs = [path.read_bytes() for path in sorted(folder.iterdir())]
    together = [bytes((reader, 128, 1)) + log for log in logs for reader in (0, 1)]
    alone = [kinds[0] for kinds in READERS[2:]]
    apart = [
        bytes((2 + number, 128, 1)) + log
        for log in dict.fromkeys(log[:SHORT] for log in logs)
        for number, kind in enumerate(alone)
        if any(gate in log for gate in kind.gates)
    ]
    return [*together, *apart]


def read_log(data: bytes) -> None:
    """Read bytes as a log, cut in two at a place that they choose, and stitch what came out."""
    if len(data) < 3:  # noqa: PLR2004 - with what, where it is cut, and whether it is made long
        return
    kinds = READERS[data[0] % len(READERS)]
    log = grown(data[2:], GROWN_BYTES)
    cut = data[1] * len(log) // 256
    reader = Reader(dialects=kinds)
    reader.feed(log[:cut])
    reader.pause()
    reader.feed(log[cut:])
    stitch(reader.close(), name="fuzz", path=Path("-"), folder=None, now=0.0, dialects=kinds)


def read_records(data: bytes) -> None:
    """Read bytes as a records file that grows."""
    reader = RecordsReader(Path("-"), None)
    for at in range(0, len(data), 64):
        reader.feed(data[at : at + 64])
    reader.snapshot()


def read_store(data: bytes) -> None:
    """Read bytes as a store; their first byte says of which name."""
    path = _FOLDER / _STORES[data[0] % len(_STORES) if data else 0]
    path.write_bytes(data[1:])
    try:
        store = open_store(path)
        for name in store.keys if store is not None else ():
            store.column(name)
    except OrzError:  # refused in words
        pass
    finally:
        path.unlink()


TARGETS: dict[str, Callable[[bytes], None]] = {"log": read_log, "records": read_records, "store": read_store}


if __name__ == "__main__":
    fuzz(
        TARGETS,
        seeds,
        folder=_FOLDER,
        limits=(f"-timeout={SLOWEST_S}", f"-max_len={LONGEST}"),
        usage=(__doc__ or "").partition("\n\n")[2],
    )
