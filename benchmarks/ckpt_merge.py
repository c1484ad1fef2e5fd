"""Time `orz ckpt merge` against DeepSpeed's own tools and against copying the output, side by side in one run.

Usage: python benchmarks/ckpt_merge.py CHECKPOINT [ROUNDS]

CHECKPOINT is a folder that `engine.save_checkpoint` wrote (benchmarks/zero_checkpoint.py makes one). Outputs go to a
temporary folder beside it. Before each run the checkpoint is dropped from the page cache and everything is flushed.
Wall time is that of the whole process, imports included; ours ends with its output on the disk, DeepSpeed's does not
flush, the copy does. On a busy machine the processor time says more. Peak memory is the kernel's own (maxrss), and
anonymous memory (RssAnon) as sampled: mapped files inflate the first unfairly. The table is void unless all tensors
are bitwise equal.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

COMPARE = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file
def read(folder):
    found = {}
    for file in sorted(Path(folder).iterdir()):
        if file.suffix == ".safetensors":
            found |= load_file(file)
        elif file.suffix == ".bin":
            found |= torch.load(file, weights_only=True)
    return found
ours, theirs = read(sys.argv[1]), read(sys.argv[2])
assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
assert ours
for name, tensor in ours.items():
    assert tensor.dtype == theirs[name].dtype, name
    assert torch.equal(tensor.view(torch.uint8), theirs[name].view(torch.uint8)), name
"""


@dataclass
class Arm:
    """One way to do it."""

    name: str
    command: list[str]
    out: Path
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    anonymous_mb: list[float] = field(default_factory=list)


def arms(checkpoint: Path, scratch: Path) -> list[Arm]:
    """Return DeepSpeed's tools, ours with the same outputs, and copies of these."""
    fp32, bf16 = scratch / "theirs-fp32", scratch / "theirs-bf16"
    ours_fp32, ours_bf16 = scratch / "ours-fp32", scratch / "ours-bf16"
    python, source = sys.executable, str(checkpoint)
    merge = [python, "-m", "orz_cli", "ckpt", "merge", source]
    copy = 'mkdir "$2" && cp "$1"/* "$2" && sync'
    return [
        Arm(
            "zero_to_fp32",
            [python, "-m", "deepspeed.utils.zero_to_fp32", source, str(fp32), "--safe_serialization"],
            fp32,
        ),
        Arm("merge float32", [*merge, str(ours_fp32), "--dtype", "float32"], ours_fp32),
        Arm("cp + sync", ["sh", "-c", copy, "sh", str(ours_fp32), str(scratch / "copy-fp32")], scratch / "copy-fp32"),
        Arm(
            "zero_to_torch bf16",
            [python, "-m", "deepspeed.utils.zero_to_torch", source, str(bf16), "--dtype", "bf16"],
            bf16,
        ),
        Arm("merge bfloat16", [*merge, str(ours_bf16), "--dtype", "bfloat16"], ours_bf16),
        Arm("cp + sync", ["sh", "-c", copy, "sh", str(ours_bf16), str(scratch / "copy-bf16")], scratch / "copy-bf16"),
    ]


def forget(folder: Path) -> None:
    """Drop the files of `folder` from the page cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def run(arm: Arm) -> None:
    """Run one arm once and note wall time, processor time and memory."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(arm.command, stdout=subprocess.DEVNULL, stderr=said)
        anonymous, ended = 0, 0
        while not ended:
            anonymous = max(anonymous, rss_anonymous(process.pid))
            time.sleep(0.005)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
        arm.seconds.append(time.perf_counter() - begin)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{arm.name}: {said.read().decode()[-2000:]}")
    arm.processor.append(used.ru_utime + used.ru_stime)
    arm.peak_mb.append(1024 * used.ru_maxrss / 1e6)
    arm.anonymous_mb.append(anonymous / 1e6)


def rss_anonymous(pid: int) -> int:
    """Return the anonymous resident memory of a process in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def check(ours: Path, theirs: Path) -> None:
    """Stop unless both folders hold the same tensors, bit for bit."""
    subprocess.run([sys.executable, "-c", COMPARE, str(ours), str(theirs)], check=True)


def main() -> None:
    """Time all arms in turn and print the table."""
    checkpoint = Path(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5  # noqa: PLR2004
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder:
        work = arms(checkpoint, Path(folder))
        for _ in range(rounds):
            for arm in work:
                shutil.rmtree(arm.out, ignore_errors=True)
                os.sync()
                forget(checkpoint)
                run(arm)
        check(work[1].out, work[0].out)
        check(work[4].out, work[3].out)
        nbytes = [sum(file.stat().st_size for file in arm.out.iterdir()) for arm in work]
    print(f"{checkpoint.name}: median of {rounds}, all tensors bitwise equal")
    columns = ("s", "min", "max", "cpu s", "GB out", "x tool", "x cp", "peak MB", "anon MB")
    print(f"{'arm':<20}" + "".join(f"{title:>9}" for title in columns))
    for index, arm in enumerate(work):
        tool, copied = (statistics.median(work[index // 3 * 3 + other].seconds) for other in (0, 2))
        median = statistics.median(arm.seconds)
        times = (median, min(arm.seconds), max(arm.seconds), statistics.median(arm.processor))
        row = "".join(f"{number:9.2f}" for number in (*times, nbytes[index] / 1e9, median / tool, median / copied))
        print(f"{arm.name:<20}{row}{max(arm.peak_mb):9.0f}{max(arm.anonymous_mb):9.0f}")


if __name__ == "__main__":
    main()
