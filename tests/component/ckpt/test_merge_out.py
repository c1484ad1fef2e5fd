"""What may stand where a merge is written: nothing of it is replaced, and the same merge is not done twice."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.errors import CheckpointExistsError, CkptError
from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.merge.journal import Journal, RunningError
from orz_ckpt.merge.plan import make_plan
from orz_ckpt.merge.run import Options, merge
from orz_ckpt.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[Any]]
    TensorsOf = Callable[[Path], Tensors]
    Same = Callable[[Tensors, Tensors], bool]

pytestmark = pytest.mark.component

MB = 1_000_000


def lying_at(path: Path) -> dict[Path, Path | bytes | None]:
    """Return what lies at a path and below it: where links lead, and the bytes of files."""
    return {entry: _content(entry) for entry in (path, *path.rglob("*"))}


def _content(path: Path) -> Path | bytes | None:
    if path.is_symlink():
        return path.readlink()
    return path.read_bytes() if path.is_file() else None


def test_twice(model: Path, tmp_path: Path) -> None:
    """The same merge again writes nothing and says so; what it was made from is in the manifest."""
    first = merge(open_source(model), tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = merge(open_source(model), tmp_path / "out")

    assert (False, True) == (first.was_there, again.was_there)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert "hf" == dict(load(tmp_path / "out" / MANIFEST_NAME).meta)["source"]["format"]  # type: ignore[index]


def test_twice_after_a_change(model: Path, tmp_path: Path) -> None:
    """A merged folder of which a file was cut since is not called finished."""
    merge(open_source(model), tmp_path / "out")
    os.truncate(tmp_path / "out" / "model.safetensors", 1000)
    with pytest.raises(CheckpointExistsError, match=r"model\.safetensors has changed since"):
        merge(open_source(model), tmp_path / "out")


def test_another_source_with_names_sizes_and_times_alike(model: Path, tmp_path: Path) -> None:
    """Two saves whose files look the same by name, size and time are two merges, wherever their numbers differ."""
    other = tmp_path / "other"
    shutil.copytree(model, other)
    for file in other.glob("*.safetensors"):
        data, status = bytearray(file.read_bytes()), file.stat()
        data[len(data) // 2] ^= 1  # neither in its header nor at its end
        file.write_bytes(data)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert merge(open_source(model), tmp_path / "out").written
    with pytest.raises(CheckpointExistsError, match="another checkpoint"):
        merge(open_source(other), tmp_path / "out")
    for file in model.glob("*.safetensors"):  # in its very place
        status = file.stat()
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        with file.open("r+b") as stream:
            stream.write(data)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(CheckpointExistsError, match="another checkpoint"):
        merge(open_source(model), tmp_path / "out")


@pytest.mark.parametrize("what", ["options", "source", "folder", "file", "link"])
def test_out_is_taken(model: Path, tmp_path: Path, what: str) -> None:
    """Whatever else is at OUT stays as it is: another merge, a folder, a file, a link."""
    out = tmp_path / "out"
    options = Options()
    if what in {"options", "source"}:
        merge(open_source(model), out)
        if what == "options":
            options = Options(dtype="F16")
        else:
            os.utime(next(model.glob("model-00001*")), ns=(1, 1))
    elif what == "folder":
        (out / "data").mkdir(parents=True)
    elif what == "file":
        out.write_text("mine", encoding="utf-8")
    else:
        out.symlink_to(tmp_path)
    before = lying_at(out)
    with pytest.raises(CheckpointExistsError, match="OUT"):
        merge(open_source(model), out, options)

    assert before == lying_at(out)
    assert not (tmp_path / "out.tmp-merge").exists()


def test_an_empty_folder_is_filled(model: Path, tmp_path: Path, tensors_of: TensorsOf, same: Same) -> None:
    """A folder that was made for the output and holds nothing is taken."""
    (tmp_path / "out").mkdir()
    merge(open_source(model), tmp_path / "out")

    assert same(tensors_of(model), tensors_of(tmp_path / "out"))


@pytest.mark.parametrize("out", ["", "deep/inside", "..", "../../"])
def test_in_each_other(model: Path, out: str) -> None:
    """An output inside the checkpoint, around it, or the checkpoint itself is refused, and nothing is made."""
    before = sorted(model.rglob("*"))
    with pytest.raises(CheckpointExistsError, match="OUT"):
        merge(open_source(model), model / out)

    assert before == sorted(model.rglob("*"))


def test_in_each_other_through_a_link(model: Path, tmp_path: Path) -> None:
    """A link does not hide that the output lies in the checkpoint."""
    (tmp_path / "link").symlink_to(model)
    with pytest.raises(CheckpointExistsError, match="inside the checkpoint"):
        merge(open_source(model), tmp_path / "link" / "out")


def test_two_at_once(model: Path, tmp_path: Path) -> None:
    """While one process merges into OUT, another is told so and writes nothing."""
    source = open_source(model)
    plan = make_plan(source, max_shard_bytes=MB)
    with Journal(tmp_path / "out.tmp-merge", plan, "f"), pytest.raises(RunningError, match="another process"):
        merge(source, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_folder_in_the_way(model: Path, tmp_path: Path) -> None:
    """A folder of somebody else under the name of the unfinished one is not touched."""
    mine = tmp_path / "out.tmp-merge" / "mine"
    mine.mkdir(parents=True)
    with pytest.raises(CkptError, match="in the way"):
        merge(open_source(model), tmp_path / "out")

    assert mine.is_dir()
