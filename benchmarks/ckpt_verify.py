"""Time `orz ckpt verify` against `sha256sum` and `cat` on the same bytes, and over a thousand small files.

python benchmarks/ckpt_verify.py [--gigabytes 1 5] [--shards 1000] [--rounds 5] [--folder DIR] [--out FILE]

5 GB is what Hugging Face's files of weights have at most; beside 1 GB it tells what the start of Python takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from arms import HEAD, ORZ, Arm, forget, take_turns
from result_page import Measured, made_by, table, today, write_measured
from weights import write_shards, write_weights

LEAST_OF_CAT = 0.8
LEAST_OF_SHA256SUM = 3.0
MOST_MB = 150.0
MOST_READ = 1.01
"""Of the bytes of the file, from the disk: each once, and what Python loads."""
QUICK_S = 2.0

PAGE = """\
{made}
Start of the interpreter included; {rounds} rounds, taken in turn. Cold: the file was dropped from the page cache before
every run. A file of weights in BF16, alone in its folder: with a manifest its blake3 is compared, and with or without
one every number is looked at.

{sizes}

## Quick, over {shards:,} files

Headers, index, shapes and sizes of {shards:,} safetensors files of one model, with a manifest and without.

{quick}

## Goals

Of a small file the start of the interpreter is a good part of the time; `cat` of a large one fills the page cache, and
waits for room in it."""


def main() -> int:
    """Measure and write the page; return 1 where a goal is not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1.0, 5.0])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where files are made; the system's temporary folder by default")
    parser.add_argument("--out", type=Path, default=today("ckpt-verify"))
    options = parser.parse_args()
    sections, goals = [], list[Measured]()
    for gigabytes in sorted(options.gigabytes):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            section, more = full(Path(name), int(gigabytes * 1e9), options.rounds)
        sections.append(section)
        goals += more
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        quick, more = quickly(Path(name), options.shards, options.rounds)
    goals += more
    sizes = " ".join(f"{size:g}" for size in options.gigabytes)
    command = f"python benchmarks/ckpt_verify.py --gigabytes {sizes} --shards {options.shards}"
    page = PAGE.format(
        made=made_by(f"{command} --rounds {options.rounds}", "numpy", "blake3"),
        rounds=options.rounds,
        sizes="\n\n".join(sections),
        shards=options.shards,
        quick=quick,
    )
    return write_measured("Verifying checkpoints", page, goals, options.out)


def full(folder: Path, nbytes: int, rounds: int) -> tuple[str, list[Measured]]:
    """Measure `--level full` on one file; return a section of the page, and the goals."""
    bare, kept = folder / "bare", folder / "with-manifest"
    file, twin = bare / "model.safetensors", kept / "model.safetensors"
    for path in (bare, kept):
        path.mkdir()
    write_weights(file, nbytes)
    twin.hardlink_to(file)
    subprocess.run([*ORZ, "manifest", kept], check=True, capture_output=True)
    cold, size = partial(forget, [file]), file.stat().st_size
    verify = [*ORZ, "verify", "--json"]
    chilled = [
        Arm(name="cat, cold", command=["cat", file], before=cold),
        Arm(name="verify, cold", command=[*verify, bare], before=cold),
        Arm(name="verify with manifest, cold", command=[*verify, kept], before=cold),
    ]
    warm = [
        Arm(name="cat", command=["cat", file]),
        Arm(name="verify", command=[*verify, bare]),
        Arm(name="verify with manifest", command=[*verify, kept]),
        Arm(name="sha256sum", command=["sha256sum", file]),
    ]
    for arm in chilled[:1] + warm[:1]:
        arm.command = ["sh", "-c", 'cat "$1" > /dev/null', "sh", file]
    take_turns(chilled, rounds)
    take_turns(warm, rounds)
    for arm in (*chilled[1:], *warm[1:3]):
        report = json.loads(arm.output)
        if report["bytes"] < size or report["tensors"] == 0:
            raise SystemExit(f"void: {arm.name} read less than the file: {arm.output[:500]}")
    rows = [
        f"{arm.row} | {size / 1e9 / arm.least:.2f} | {floor.least / arm.least:.2f}"
        for arms, floor in ((chilled, chilled[0]), (warm, warm[-1]))
        for arm in arms
    ]
    about = f"## Full, {size / 1e9:.2f} GB\n\nSpeed of cold runs is compared with `cat`, of warm ones with `sha256sum`."
    cat, bare_cold, kept_cold = (arm.least for arm in chilled)
    of = f"{size / 1e9:.2f} GB:"
    goals = [
        Measured(what=f"{of} speed of `cat`, cold", value=cat / bare_cold, unit="times", least=LEAST_OF_CAT),
        Measured(
            what=f"{of} speed of `cat`, cold, with manifest", value=cat / kept_cold, unit="times", least=LEAST_OF_CAT
        ),
        Measured(
            what=f"{of} speed of `sha256sum`, warm, with manifest",
            value=warm[3].least / warm[2].least,
            unit="times",
            least=LEAST_OF_SHA256SUM,
        ),
        Measured(
            what=f"{of} memory", value=max(arm.peak for arm in (*chilled[1:], *warm[1:3])), unit="MB", most=MOST_MB
        ),
        Measured(
            what=f"{of} read from the disk, of its bytes",
            value=max(chilled[2].read_mb) * 1e6 / size,
            unit="times",
            most=MOST_READ,
        ),
    ]
    return f"{about}\n\n{table(f'{HEAD} | GB/s | speed', rows)}", goals


def quickly(folder: Path, shards: int, rounds: int) -> tuple[str, list[Measured]]:
    """Measure `--level quick` over many files; return a table, and the goal."""
    kept, bare = folder / "with-manifest", folder / "bare"
    for path in (bare, kept):
        path.mkdir()
        write_shards(path, shards)
    subprocess.run([*ORZ, "manifest", kept], check=True, capture_output=True)
    quick = [*ORZ, "verify", "--level", "quick", "--json"]
    arms = [
        Arm(name="verify --level quick", command=[*quick, bare]),
        Arm(name="verify --level quick, with manifest", command=[*quick, kept]),
    ]
    take_turns(arms, rounds)
    for arm in arms:
        if json.loads(arm.output)["tensors"] != shards:
            raise SystemExit(f"void: expected {shards} tensors: {arm.output[:500]}")
    most = max(arm.least for arm in arms)
    return table(HEAD, [arm.row for arm in arms]), [
        Measured(what=f"--level quick over {shards:,} files", value=most, unit="s", most=QUICK_S)
    ]


if __name__ == "__main__":
    sys.exit(main())
