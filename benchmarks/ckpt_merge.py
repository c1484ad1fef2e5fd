"""Time `orz ckpt merge` against DeepSpeed's own tools, and against copying the output.

    python benchmarks/ckpt_merge.py [SHAPE:STAGE ...] [--rounds 3] [--folder DIR] [--out FILE]

`215m:3` and `215m:2` are written by eight real ranks, `qwen2.5-0.5b:3` by one rank after the other (zero_checkpoint.py
says why that is the same, and `--check` there proves it). A checkpoint that `--folder` holds from before is used again.
The page is not written unless all tensors of both tools are the same, bit for bit.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import zero_checkpoint
from arms import HEAD, ORZ, Arm, forget, processors_of, take_turns
from result_page import Measured, made_by, table, today, write_measured

DEFAULT = ("215m:3", "215m:2", "qwen2.5-0.5b:3")
IN_TURN = ("qwen2.5-0.5b",)
"""Shapes that do not fit into memory once for each rank."""
RANKS = 8
MOST_TIME, MOST_MEMORY, MOST_OF_COPY = 0.5, 0.05, 1.25
TYPES = {"float32": ("zero_to_fp32", []), "bfloat16": ("zero_to_torch", ["--dtype", "bf16"])}
"""What is written -> the module of DeepSpeed that does it, and its options."""
WIDTHS = {"float32": 4, "bfloat16": 2}
"""Bytes of a number."""
COPY = 'mkdir "$2" && cp "$1"/* "$2" && sync'

PAGE = """\
{made}
Checkpoints of {ranks} ranks, dropped from the page cache before every run, with everything else on the disk. Imports
are included. `merge` ends with its output on the disk, as `cp` with `sync` does; DeepSpeed's tools leave theirs to the
kernel. Both write safetensors of one type into files of at most 5 GB, and all tensors are the same, bit for bit.
`cp` copies the output of `merge`, which is dropped from the page cache before as well: it reads from the disk, as
`merge` does, but in bfloat16 half as many bytes. What it takes out of memory stands below it, for comparison, and what
it takes to read the bytes that `merge` has to read (all masters, in float32) and to write those that it writes, past
the page cache and without doing anything else (`bare_copy.py`). So much of merge's time is the disk's. Below each table
stands where its processors were, as `perf` saw them.
{rounds} rounds, taken in turn. The layout of what is not written by real ranks at once was compared with real ranks'
for a tiny model: {checked}.

{sections}

## Goals"""


def main() -> int:
    """Measure and write the page; return 1 where a goal is not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoints", nargs="*", metavar="SHAPE:STAGE", default=DEFAULT)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where checkpoints are kept; a temporary folder by default")
    parser.add_argument("--out", type=Path, default=today("ckpt-merge"))
    options = parser.parse_intermixed_args()
    for name in options.checkpoints:
        shape, _, stage = name.partition(":")
        if shape not in zero_checkpoint.SHAPES or stage not in {"2", "3"}:
            known = ", ".join(zero_checkpoint.SHAPES)
            parser.error(f"{name}: expected SHAPE:STAGE such as 215m:3, with stage 2 or 3 and a shape of {known}")
    sections, goals, checked = [], list[Measured](), "none here is such"
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for name in options.checkpoints:
            shape, _, stage = name.partition(":")
            if shape in IN_TURN:
                checked = f"all {zero_checkpoint.check(int(stage))} files are the same byte for byte"
            source = made(options.folder or Path(scratch), shape, int(stage))
            work = Path(scratch) / "outputs"
            for dtype in TYPES:
                work.mkdir()
                section, more = merged(source, work, dtype, options.rounds, f"{shape}, ZeRO-{stage}")
                sections.append(section)
                goals += more
                shutil.rmtree(work)
            if options.folder is None:
                shutil.rmtree(source)
    page = PAGE.format(
        made=made_by(
            f"python benchmarks/ckpt_merge.py {' '.join(options.checkpoints)} --rounds {options.rounds}",
            "deepspeed",
            "torch",
            "numpy",
        ),
        ranks=RANKS,
        rounds=options.rounds,
        checked=checked,
        sections="\n\n".join(sections),
    )
    return write_measured("Merging checkpoints of DeepSpeed", page, goals, options.out)


def made(folder: Path, shape: str, stage: int) -> Path:
    """Return the checkpoint of a shape and stage, written first where it is not there yet."""
    path = folder / f"{shape}-zero{stage}"
    if not path.exists():
        part = path.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        zero_checkpoint.write(part, stage, shape, RANKS, in_turn=shape in IN_TURN)
        part.rename(path)
    return path


def merged(source: Path, work: Path, dtype: str, rounds: int, about: str) -> tuple[str, list[Measured]]:
    """Measure one checkpoint and type; return a section of the page, and the goals."""
    module, more = TYPES[dtype]
    theirs, ours, copied = work / "theirs", work / "ours", work / "copied"

    def fresh(out: Path, read: Path = source) -> None:
        shutil.rmtree(out, ignore_errors=True)
        forget(path for path in read.rglob("*") if path.is_file())

    def in_memory() -> None:
        shutil.rmtree(copied, ignore_errors=True)
        subprocess.run(["cat", *ours.iterdir()], check=True, stdout=subprocess.DEVNULL)

    tool = [sys.executable, "-m", f"deepspeed.utils.{module}", source, theirs, "--safe_serialization", *more]
    merge = [*ORZ, "merge", source, ours, "--dtype", dtype]
    copy = ["sh", "-c", COPY, "sh", ours, copied]

    def masters_only() -> None:
        fresh(copied)
        copied.mkdir()

    arms = [
        Arm(name=f"DeepSpeed {module}", command=tool, before=partial(fresh, theirs)),
        Arm(name="orz ckpt merge", command=merge, before=partial(fresh, ours)),
        Arm(name="cp + sync", command=copy, before=partial(fresh, copied, ours)),
        Arm(name="cp + sync, out of memory", command=copy, before=in_memory),
    ]
    take_turns(arms[:2], 1)
    nbytes = sum(path.stat().st_size for path in ours.iterdir())
    sizes = [str(nbytes * 4 // WIDTHS[dtype]), str(nbytes)]
    bare: list[str | Path] = [sys.executable, Path(__file__).parent / "bare_copy.py", source, copied / "bare", *sizes]
    arms.append(Arm(name="the same bytes, bare", command=bare, before=masters_only))
    subprocess.run([sys.executable, Path(__file__).parent / "same_tensors.py", ours, theirs], check=True)
    take_turns(arms[2:], 1)
    take_turns(arms, rounds - 1)
    they, we, cp, *_ = arms
    rows = [
        f"{arm.row} | {arm.least / they.least:.2f} | {arm.least / cp.least:.2f} | {arm.peak / they.peak:.3f}"
        for arm in arms
    ]
    head = f"{HEAD} | time, of the tool's | time, of cp's | memory, of the tool's"
    what = f"{about}, {dtype}:"
    goals = [
        Measured(what=f"{what} time, of the tool's", value=we.least / they.least, unit="times", most=MOST_TIME),
        Measured(
            what=f"{what} memory, of the tool's", value=we.peak / they.peak, unit="times", most=MOST_MEMORY, digits=3
        ),
        Measured(what=f"{what} time, of cp + sync", value=we.least / cp.least, unit="times", most=MOST_OF_COPY),
    ]
    fresh(ours)
    symbols = processors_of([*map(str, merge)])
    return f"## {about}, {dtype}: {nbytes / 1e9:.2f} GB written\n\n{table(head, rows)}\n\n{symbols}", goals


if __name__ == "__main__":
    sys.exit(main())
