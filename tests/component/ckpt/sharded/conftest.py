"""Real checkpoints of FSDP and of torch's distributed checkpointing, written once a session by gloo processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RANKS = Path(__file__).parent / "torch_ranks.py"
DEADLINE_S = 600
STEP = 7
THREE = (
    "fsdp2",
    "fsdp1",
    "fsdp1_mesh",
    "fsdp1_flat",
    "partial_sums",
    "dcp_nested",
    "dcp_flat",
    "dcp_single",
    "dcp_transformed",
    "dcp_no_collectives",
    "hf_shards",
    "hf_shards_gap",
    "dcp_gap",
    "dcp_no_collectives_gap",
    "hf_consolidated",
)
"""What every test run saves on three ranks: 11 rows are 4, 4 and 3, and of one element two ranks hold none."""
FOUR = ("hsdp", "fsdp_tp", "two_dims")
"""What it saves on a mesh of 2 x 2."""

Numbers = dict[str, tuple[str, tuple[int, ...], bytes]]
"""Name -> type, shape and bytes of a tensor."""


def save_on(num_ranks: int, cases: Sequence[str], folder: Path) -> None:
    log = folder / "ranks.log"
    with log.open("wb") as stream:
        done = subprocess.run(
            [sys.executable, str(RANKS), str(folder), str(num_ranks), *cases],
            stdout=stream,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE_S,
            check=False,
        )
    assert 0 == done.returncode, log.read_text()[-4000:]


def stored(path: Path) -> Numbers:
    """Read a safetensors file by its format's first paragraph, without our reader."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], tuple(entry["shape"]), data[begin:][slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The function that returns the folder of a case; `<case>.safetensors` beside it is what its framework loads."""
    folder = tmp_path_factory.mktemp("sharded")
    done: set[str] = set()

    def case(name: str) -> Path:
        of_case = (3, THREE) if name in THREE else (4, FOUR)
        if name not in done:
            save_on(*of_case, folder)
            done.update(of_case[1])
        path = folder / name
        roles = list(path.glob("global_step_*/actor"))
        return roles[0] if roles else path

    return case


@pytest.fixture(scope="session")
def expected(saved: Callable[[str], Path]) -> Callable[[str], Numbers]:
    """The function that returns what a case's framework loads."""

    def of_case(name: str) -> Numbers:
        path = saved(name)
        root = next(folder for folder in (path, *path.parents) if folder.name == name)
        return stored(root.with_name(f"{name}.safetensors"))

    return of_case


@pytest.fixture
def broken(saved: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """The function that copies the folder of a case, to break it; the copies are as new as what breaks them."""

    def copy(name: str) -> Path:
        original = saved(name)
        target = tmp_path / name / f"global_step_{STEP}" / original.name
        shutil.copytree(original, target, copy_function=shutil.copyfile)
        return target

    return copy


@pytest.fixture(scope="session")
def read_stored() -> Callable[[Path], Numbers]:
    """The function that reads a safetensors file."""
    return stored


@pytest.fixture(scope="session")
def on_ranks() -> Callable[[int, Sequence[str], Path], None]:
    """The function that saves cases on so many ranks."""
    return save_on


def patch_record(path: Path, old: bytes, new: bytes) -> None:
    """Replace the numbers of one record of an archive, and its checksum: another save, not damage."""
    data = path.read_bytes()
    assert 1 == data.count(old)
    begin = data.index(old)
    checksum = zlib.crc32(old).to_bytes(4, "little")
    assert 2 == data.count(checksum)  # behind the record, and in the directory
    data = data[:begin] + new + data[begin + len(old) :]
    path.write_bytes(data.replace(checksum, zlib.crc32(new).to_bytes(4, "little")))


@pytest.fixture(scope="session")
def patched() -> Callable[[Path, bytes, bytes], None]:
    """The function that replaces a record of an archive."""
    return patch_record
