"""Both ends of each file are asked for, and nobody waits for a file that is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orz_ckpt.disk import early
from orz_ckpt.disk.early import HEAD_BYTES, TAIL_BYTES, ask_for_ends

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on files"),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Return what is asked for: names of files, first byte, how many."""
    asked: list[tuple[str, int, int]] = []
    advise = os.posix_fadvise

    def record(descriptor: int, offset: int, nbytes: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        asked.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, offset, nbytes))
        advise(descriptor, offset, nbytes, advice)

    monkeypatch.setattr(os, "posix_fadvise", record)
    return asked


def make(path: Path, nbytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.truncate(nbytes)


def test_both_ends_are_asked_for(tmp_path: Path, asked: list[tuple[str, int, int]]) -> None:
    """Of files in the folder and in those right below; a small one is all head."""
    make(tmp_path / "latest", 12)
    make(tmp_path / "global_step8" / "large.pt", 5 * TAIL_BYTES + 7)
    make(tmp_path / "global_step8" / "middling.pt", HEAD_BYTES + 5)
    make(tmp_path / "global_step8" / "inner" / "deep.pt", 12)

    ask_for_ends(tmp_path)

    assert sorted(asked) == [
        ("large.pt", 0, HEAD_BYTES),
        ("large.pt", 4 * TAIL_BYTES + 7, TAIL_BYTES),
        ("latest", 0, HEAD_BYTES),
        ("middling.pt", 0, HEAD_BYTES),
        ("middling.pt", HEAD_BYTES, TAIL_BYTES),
    ]


def test_a_file_is_asked_for_itself(tmp_path: Path, asked: list[tuple[str, int, int]]) -> None:
    make(tmp_path / "model.safetensors", 12)

    ask_for_ends(tmp_path / "model.safetensors")

    assert asked == [("model.safetensors", 0, HEAD_BYTES)]


def test_what_cannot_be_read_is_left_to_others(tmp_path: Path, asked: list[tuple[str, int, int]]) -> None:
    """A pipe that nobody writes to, a link that leads nowhere, and a path that is not there."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("nowhere")

    ask_for_ends(tmp_path)
    ask_for_ends(tmp_path / "missing")

    assert asked == []


def test_only_so_many_files_are_opened(
    tmp_path: Path, asked: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        make(tmp_path / f"{number}.pt", 12)
    monkeypatch.setattr(early, "_MOST", 3)

    ask_for_ends(tmp_path)

    assert ["0.pt", "1.pt", "2.pt"] == [name for name, _, _ in asked]
