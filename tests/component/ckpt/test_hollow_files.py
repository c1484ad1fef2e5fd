"""Files of a few bytes that state terabytes, the rest a hole: told before zeros are read without end."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.distributed.checkpoint.state_dict_saver import save as save_dcp

from orz_ckpt.describing import describe_folder
from orz_ckpt.diff.run import diff
from orz_ckpt.disk.holes import HOLLOW_BYTES, HOLLOW_UNVOUCHED_BYTES
from orz_ckpt.errors import NotComparableError
from orz_ckpt.findings import Level, Report
from orz_ckpt.manifest import dumps
from orz_ckpt.sources import open_source
from orz_ckpt.verify import verify
from orz_cli.findings import Status

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
]

NBYTES = 2**43
NUMEL = NBYTES // 4


class Impatient:
    """Progress that ends the reading of a bomb."""

    def __init__(self) -> None:
        self.nbytes = 0

    def add_total(self, nbytes: int) -> None:
        """Ignore it."""

    def advance(self, nbytes: int) -> None:
        self.nbytes += nbytes
        assert self.nbytes < 2**26, "zeros are read"


def safetensors_bomb(folder: Path) -> Path:
    header = json.dumps({"w": {"dtype": "F32", "shape": [NUMEL], "data_offsets": [0, NBYTES]}}).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return grown(path, 8 + len(header) + NBYTES)


def torch_bomb(folder: Path) -> Path:
    """Write an archive with a record of 64-bit length, as torch does that leaves the numbers out."""
    storage = object()

    class Huge:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (storage, 0, (NUMEL,), (1,), False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", NUMEL) if value is storage else None

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump({"w": Huge()})
    path = folder / "x.pt"
    writer: Any = torch._C.PyTorchFileWriter(str(path))
    writer.write_record("data.pkl", stream.getvalue(), len(stream.getvalue()))
    writer.write_record("byteorder", b"little", 6)
    writer.write_record_metadata("data/0", NBYTES)
    writer.write_end_of_file()
    return holding_holes(path)


def distcp_bomb(folder: Path) -> Path:
    save_dcp({"w": torch.ones(5)}, checkpoint_id=folder, no_dist=True)
    return grown(folder / "__0_0.distcp", NBYTES)


def grown(path: Path, nbytes: int) -> Path:
    try:
        os.truncate(path, nbytes)
    except OSError:
        pytest.skip("this file system has no files of so many bytes")
    return holding_holes(path)


def holding_holes(path: Path) -> Path:
    if path.stat().st_blocks * 512 >= path.stat().st_size:
        pytest.skip("this file system keeps no holes")
    return path


def holes(report: Report) -> list[str]:
    return [entry.path for entry in report.findings if entry.code == "file_holes"]


@pytest.mark.parametrize("level", [Level.QUICK, Level.SAMPLE, Level.FULL, Level.DEEP])
@pytest.mark.parametrize("bomb", [safetensors_bomb, torch_bomb, distcp_bomb])
def test_hollow_weights(bomb: Any, level: Level, tmp_path: Path) -> None:
    """Weights of terabytes that were never written, of which all else agrees, fail at once, at every level."""
    path = bomb(tmp_path)
    report = verify(tmp_path if bomb is distcp_bomb else path, level=level, progress=Impatient())

    assert (Status.FAILED, [str(path)]) == (report.status(), holes(report))
    assert "one_copy" not in {entry.code for entry in report.findings}


def test_evil_pickle_in_a_hollow_file(tmp_path: Path) -> None:
    """What would run code when torch loads it is refused also where the file is not read to its end."""
    save_dcp({"w": torch.ones(5), "evil": Evil()}, checkpoint_id=tmp_path, no_dist=True)
    path = grown(tmp_path / "__0_0.distcp", NBYTES)
    report = verify(tmp_path, progress=Impatient())

    assert (Status.REFUSED, [str(path)]) == (report.status(), holes(report))


class Evil:
    def __reduce__(self) -> Any:
        return os.getcwd, ()


def test_manifest_of_a_hollow_file(tmp_path: Path) -> None:
    """No manifest vouches for terabytes of zeros, also in a file beside the weights, and none is read for it."""
    save_file({"w": np.ones(9, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "README.md").write_text("# A model", encoding="utf-8")
    path = grown(tmp_path / "README.md", NBYTES)
    described = describe_folder(tmp_path, progress=Impatient())

    assert Status.FAILED is described.status()
    assert (None, [("file_holes", str(path))]) == (
        described.manifest,
        [(entry.code, entry.path) for entry in described.findings if entry.code == "file_holes"],
    )


def test_manifest_that_states_a_hollow_file(tmp_path: Path) -> None:
    """A manifest with the length of a bomb and a digest does not have it read; a real sparse copy is compared."""
    save_file({"w": np.ones(9, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "notes.bin").write_bytes(bytes(100_000))
    described = describe_folder(tmp_path)
    assert described.manifest is not None
    os.truncate(tmp_path / "notes.bin", 0)
    holding_holes(grown(tmp_path / "notes.bin", 100_000))
    assert Status.OK is verify(tmp_path).status()
    stated = described.manifest.files
    huge = replace(stated["notes.bin"], size=HOLLOW_BYTES)
    described.file.write_text(dumps(replace(described.manifest, files={**stated, "notes.bin": huge})), encoding="utf-8")
    path = grown(tmp_path / "notes.bin", HOLLOW_BYTES)
    report = verify(tmp_path, progress=Impatient())

    assert [str(path)] == holes(report)


def test_diff_of_a_hollow_file(tmp_path: Path) -> None:
    """Comparing terabytes that were never written ends at once, and the message names the file."""
    path = safetensors_bomb(tmp_path)
    source = open_source(path)

    with pytest.raises(NotComparableError, match=r"model\.safetensors: nearly all of its 8,796,093,02"):
        diff(source, source, progress=Impatient())


def test_sparse_copy_is_read(tmp_path: Path) -> None:
    """Weights with a hole of a size that copies make are read in spite of it: what else is wrong is found, too."""
    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros(200_000, np.float32), "b": np.full(4, np.nan, np.float32)}, path)
    data = path.read_bytes()
    with path.open("wb") as stream:
        stream.write(data[:4096])
        stream.seek(len(data) - 4096)
        stream.write(data[-4096:])
    holding_holes(path)

    assert len(data) < HOLLOW_UNVOUCHED_BYTES
    assert {"file_holes", "not_finite"} <= {entry.code for entry in verify(path).findings}


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_what_nobody_reads_may_be_a_hole(level: Level, tmp_path: Path) -> None:
    """Such as a core file of some GB beside a model that has no manifest."""
    save_file({"w": np.ones(8, dtype=np.float32)}, tmp_path / "model.safetensors")
    os.truncate(_empty(tmp_path / "core"), 3 * HOLLOW_UNVOUCHED_BYTES)
    assert Status.OK is verify(tmp_path, level=level).status()


def _empty(path: Path) -> Path:
    path.touch()
    return path
