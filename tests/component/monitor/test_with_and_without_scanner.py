"""Whole logs are the same runs with the compiled scanner and without it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from orz_monitor.transport.scanning import SCANNER, SWITCH

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(SCANNER is None, reason="the scanner was not compiled: no C compiler at installation"),
]

ROOT = Path(__file__).resolve().parents[3]
LOGS = Path(os.environ.get("ORZ_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "logs"
READ = """
import json, sys
from pathlib import Path
from orz_monitor.loading import load_run
from orz_monitor.transport.scanning import SCANNER
for path in sys.argv[1:]:
    run = load_run(Path(path), now=2e9)
    series = {**run.metrics, **{f"seconds/{name}": one for name, one in run.seconds.items()}}
    said = {name: [one.steps.tolist(), [v.hex() for v in one.values.tolist()]] for name, one in series.items()}
    events = [[event.event, event.step] for event in run.events]
    print(json.dumps([SCANNER is not None, said, events, run.coverage.num_missed_lines, sorted(run.coverage.unread)]))
"""
DAMAGE = (b"", b"\n", b"\r", b"]", b"0", b"nan", b"\xff", b"Actor Train epoch [1/1]: ", b"step:3 - ", b"1" * 70)


def read(paths: list[Path], switch: str) -> list[list[object]]:
    """Read logs in a process of their own; whether there was a scanner, and what was read, of each."""
    command = [sys.executable, "-c", READ, *map(str, paths)]
    environment = {**os.environ, SWITCH: switch}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return [json.loads(line) for line in done.stdout.splitlines()]


def generated(folder: Path, seed: int) -> list[Path]:
    """Write an ORZ log and a verl log of 2 MiB, sound and damaged."""
    code = (
        "import sys; from pathlib import Path; from generated_logs import write_orz, write_verl\n"
        f"for name, write in (('orz', write_orz), ('verl', write_verl)): write(Path(name), 2 << 20, {seed})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "benchmarks"), *sys.path])}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True, timeout=120)
    paths = [folder / "orz", folder / "verl"]
    rng = random.Random(seed)  # noqa: S311 - test data
    for path in list(paths):
        data = path.read_bytes()
        for _ in range(200):
            at = rng.randrange(len(data))
            data = data[:at] + rng.choice(DAMAGE) + data[at + rng.choice([0, 1, 7, 60, 300]) :]
        paths.append(path.with_suffix(".damaged"))
        paths[-1].write_bytes(data)
    return paths


@pytest.mark.parametrize("seed", [0, 1])
def test_generated_logs(tmp_path: Path, seed: int) -> None:
    """Sound and damaged, to the last bit of each value."""
    paths = generated(tmp_path, seed)
    for path, by_scanner, alone in zip(paths, read(paths, ""), read(paths, "off"), strict=True):
        assert (by_scanner[0], alone[0]) == (True, False)
        assert by_scanner[1:] == alone[1:], path.name
        assert len(str(by_scanner[1])) > 5_000


def test_logs_of_real_runs() -> None:
    """As their trainers wrote them."""
    paths = sorted(LOGS.glob("*.log"))
    if not paths:
        pytest.skip(f"no logs in {LOGS}; set ORZ_TEST_DATA to a folder with them")
    for path, by_scanner, alone in zip(paths, read(paths, ""), read(paths, "off"), strict=True):
        assert by_scanner[1:] == alone[1:], path.name
