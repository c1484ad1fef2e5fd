"""What docs/how-to/my-weights-are-missing.md shows is what the commands print, on two Ray nodes as it describes them.

Where it is not, the failure shows the page's new blocks. `plain` says what may differ from one machine to another; all
else is compared word by word.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from orz_ckpt.disk.mounts import find_mount

pytestmark = pytest.mark.e2e

PAGE = (Path(__file__).parents[3] / "docs/how-to/my-weights-are-missing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n\$ (orz ckpt [^\n]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
"""Command and output."""
PREFLIGHT = [(command, shown) for command, shown in BLOCKS if command.startswith("orz ckpt preflight ")]
SEARCH = [block for block in BLOCKS if block not in PREFLIGHT]
PROJECT = "/mnt/ckpt/project"
DISKS = Path("/tmp")  # noqa: S108  where the nodes' disks really are
ROOM_BYTES = 25_000_000_000
"""Preflight allocates 10 GB on each node, and both are on one disk here."""

SECONDS, SIZE = r"\d+\.\d s", r"\d[\d.]* (?:bytes|[kMGT]B)"
DISK = r"\S+ from \S+ at /mnt/ckpt"
MACHINE = {
    rf"(· full, ){SECONDS}": r"\1SECONDS",
    rf"(  2 nodes, \d+ files looked at, ){SECONDS}": r"\1SECONDS",
    rf"(  {SIZE} copied in ){SECONDS}, {SIZE}/s": r"\1SECONDS, SPEED",
    rf"(  2 nodes, ){SECONDS}(; writing 10 GB takes about )\d+ s": r"\1SECONDS\2SECONDS",
    r"(  node    path there     file system) +free +write +verdict": r"\1  free  write  verdict",
    rf"(  gpu-0\d  /mnt/ckpt/exp  )\S+ +{SIZE} +{SIZE}/s +(\S+)": r"\1FILE-SYSTEM  FREE  SPEED  \2",
    rf"(.*: gpu-01 \(){DISK}(\); gpu-02 \(){DISK}\)": r"\1DISK\2DISK)",
}
"""Ends of lines, or lines, that hold what differs between machines -> the same without it."""


def plain(text: str) -> str:
    """Return an output without what differs between machines: time, speed, free space, the names of disks."""
    for pattern, without in MACHINE.items():
        text = re.sub(rf"{pattern}$", without, text, flags=re.MULTILINE)
    return text


def console(blocks: Sequence[tuple[str, str]]) -> str:
    """Return blocks as the page shows them."""
    return "\n".join(f"```\n$ {command}\n{shown}```\n" for command, shown in blocks)


def played(head, blocks: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Run the blocks' commands on a node, one after the other; return them with what they print now."""
    now = []
    for command, _ in blocks:
        done = head.orz(*shlex.split(command)[1:], cwd=PROJECT)
        assert {"OK": 0, "FAILED": 1}.get(done.stdout.partition(" ")[0]) == done.code, (command, done)
        now.append((command, re.sub(r" +$", "", done.stdout, flags=re.MULTILINE)))  # tables are padded
    return now


def test_weights_are_found_and_brought_home(cluster, save) -> None:
    """From the save that looks well to a checkpoint that is good, and where the path was relative."""
    cluster.head.check("mkdir", "-p", PROJECT)
    save("/mnt/ckpt/exp", 50)
    save("runs/exp2", 50, cwd=PROJECT)
    now = played(cluster.head, SEARCH)
    assert plain(console(SEARCH)) == plain(console(now)), f"the page's blocks are now:\n\n{console(now)}"


def test_preflight_tells_it_before(cluster, disks) -> None:
    """The disks of two nodes under one path."""
    if shutil.disk_usage(DISKS).free < ROOM_BYTES:
        pytest.skip(f"the page's preflight needs {ROOM_BYTES // 10**9} GB free in {DISKS}")
    mount = find_mount(DISKS)
    if mount is not None and mount.ephemeral:
        pytest.skip(f"the page's disks keep what they are given, and {DISKS} lies in {mount.fstype}")
    cluster.head.check("mkdir", "-p", PROJECT)
    now = played(cluster.head, PREFLIGHT)
    assert plain(console(PREFLIGHT)) == plain(console(now)), f"the page's blocks are now:\n\n{console(now)}"


def test_each_command_of_the_page_is_run() -> None:
    """Blocks that were written in another way would be skipped in silence."""
    assert len(BLOCKS) == PAGE.count("$ orz")
    shown = [command.split()[2] for command, _ in BLOCKS]
    assert ["verify", "locate", "collect", "verify", "locate", "preflight"] == shown


def test_every_word_is_compared() -> None:
    """An x more in any word is seen, but in names of file systems and devices: one in each row, two for each disk."""
    page = console(BLOCKS)
    ends = [match.end() for match in re.finditer(r"\S+", page)]
    unseen = [end for end in ends if plain(f"{page[:end]}x{page[end:]}") == plain(page)]
    assert 2 + 4 == len(unseen), [page[:end].split()[-1] for end in unseen]


def test_every_count_and_size_is_compared() -> None:
    """Another number is seen, but of what is measured: 4 + 3 times in seconds, 1 + 2 speeds, free space of 2 nodes."""
    page = console(BLOCKS)
    unseen = []
    for match in re.finditer(r"(?<!\S)\d[\d.]*", page):
        other = re.sub(r"\d", lambda digit: str(9 - int(digit[0])), match[0])
        if plain(f"{page[: match.start()]}{other}{page[match.end() :]}") == plain(page):
            unseen.append(match[0])
    assert 4 + 3 + 1 + 2 + 2 == len(unseen), unseen
