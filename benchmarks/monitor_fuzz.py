"""Feeds bytes that libFuzzer makes up to what reads logs and stores: nothing may be raised but our own errors.

    python benchmarks/monitor_fuzz.py log|store|records [-max_total_time=60] [CORPUS_FOLDER]

Needs atheris, which is not among the locked packages: install it beside them (`pip install --target FOLDER atheris`,
PYTHONPATH=FOLDER). Exceptions stop it and leave the bytes in `crash-*`; so does an input that takes over ten seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
from fuzzing import fuzz

with atheris.instrument_imports(include=["orz_monitor"]):
    from orz_cli.errors import OrzError
    from orz_monitor.dialects import known_dialects
    from orz_monitor.reading import Reader
    from orz_monitor.stitch import stitch
    from orz_monitor.stores import open_store
    from orz_monitor.tail.records_reader import RecordsReader

    DIALECTS = known_dialects()  # imported now, with everything else

SLOWEST_S = 10
"""An instrumented reader on a busy machine is slow; what is quadratic takes far longer."""
LONGEST = 1 << 16
_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
_STORES = ("events.out.tfevents.1.host", "run-a.wandb", "metrics.csv", "metrics.jsonl", "mlflow.db", "trackio.db")
_SEEDS = {
    "log": (
        b"step:1 - actor/pg_loss:0.5 - critic/score/mean:np.float64(0.25)\n",
        b"\x1b[36m(ActorRayActorBase pid=1)\x1b[0m \rActor Train epoch [1/1]: 50%|##| 1/2 [02:06<00:06, pg=0.1]\n",
        b"{'loss': 0.5, 'grad_norm': '1.25', 'learning_rate': 1e-06, 'epoch': 0.1}\n",
        b'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: x\n',
    ),
    "records": (b'{"v":1,"kind":"step","step":1,"time":0.5,"metrics":{"reward/mean":0.25},"seconds":{}}\n',),
    "store": (b"\x01step,loss\n1,0.5\n", b'\x02{"step": 1, "loss": 0.5}\n'),
}
"""What the fuzzer begins with, each with the shape of something real."""


def read_log(data: bytes) -> None:
    """Read bytes as a log, cut in two at a place that they choose, and stitch what came out."""
    reader = Reader(dialects=DIALECTS)
    cut = data[0] * len(data) // 256 if data else 0
    reader.feed(data[:cut])
    reader.feed(data[cut:])
    stitch(reader.close(), name="fuzz", path=Path("-"), folder=None, now=0.0, dialects=DIALECTS)


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
        _SEEDS.__getitem__,
        folder=_FOLDER,
        limits=(f"-timeout={SLOWEST_S}", f"-max_len={LONGEST}"),
        usage=(__doc__ or "").partition("\n\n")[2],
    )
