"""Files that the real torch wrote: every tensor is where torch finds it, and nothing hostile is ever run."""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.formats.inert import Inert, Limits, blocks
from orz_ckpt.formats.torch_file import TorchFile, load
from orz_ckpt.formats.torch_tensors import DTYPES, UnsupportedTensorError
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from orz_ckpt.tensors.source import Block

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.component

CONTAINERS = ["archive", "archive without checksums", "legacy"]


def save(value: Any, path: Path, container: str = "archive") -> Path:
    torch.serialization.set_crc32_options(container != "archive without checksums")
    try:
        torch.save(value, path, _use_new_zipfile_serialization=container != "legacy")
    finally:
        torch.serialization.set_crc32_options(True)
    return path


def numbers(block: Block) -> bytes:
    """Read the elements of a block in C order, one at a time: slow, and by no code of ours."""
    data = block.path.read_bytes()
    places = np.zeros(block.shape, dtype=np.int64)
    for axis, (size, stride) in enumerate(zip(block.shape, block.strides, strict=True)):
        steps = np.arange(size, dtype=np.int64) * stride * block.itemsize
        places += steps.reshape([-1 if other == axis else 1 for other in range(len(block.shape))])
    return b"".join(data[block.offset + place :][: block.itemsize] for place in places.ravel().tolist())


def raw(tensor: Any) -> bytes:
    """Return the elements of a torch tensor in C order."""
    flat = tensor.detach().contiguous().flatten()
    return bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


def tensors(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return all tensors below what torch loaded, named as `blocks` names them."""
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    found: dict[str, Any] = {}
    for key, child in children:
        found |= tensors(child, f"{prefix}.{key}" if prefix else str(key))
    return found


def check_equal(path: Path, saved: Any = None) -> TorchFile:
    """Check that we find the same tensors as torch loads or as were saved, bit for bit; return what was read."""
    expected = tensors(torch.load(path, weights_only=False) if saved is None else saved)
    read = load(path)
    found = dict(blocks(read.value))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        block = found[name]
        assert (tuple(tensor.shape), DTYPES[str(tensor.dtype)]) == (block.shape, block.dtype), name
        assert raw(tensor) == numbers(block), name
    return read


def generator(seed: int = 0) -> Any:
    return torch.Generator().manual_seed(seed)


def filled(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a tensor of random bits that are numbers of the type."""
    values = torch.randint(0, 100, shape, generator=generator())
    return values.to(torch.float32).to(dtype) if dtype.is_floating_point or dtype.is_complex else values.to(dtype)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", sorted(DTYPES))
def test_every_type(tmp_path: Path, name: str, container: str) -> None:
    """Each type that safetensors has a name for."""
    dtype = getattr(torch, name.removeprefix("torch."))
    state = {"w": filled((3, 4), dtype), "scalar": filled((), dtype), "empty": filled((0, 3), dtype)}

    # torch 2.13 cannot load its own older container where it holds a type that came after it.
    check_equal(save(state, tmp_path / "x.pt", container), saved=state)


@pytest.mark.parametrize("container", CONTAINERS)
def test_views(tmp_path: Path, container: str) -> None:
    """Views with offsets, transposed, strided, expanded, overlapping, tied, and parameters of one flat buffer."""
    flat = torch.arange(100, dtype=torch.float32)
    state = {
        "offset": flat[17:29].reshape(3, 4),
        "transposed": flat[:20].reshape(4, 5).t(),
        "permuted": flat[:24].reshape(2, 3, 4).permute(2, 0, 1),
        "strided": flat[5:50:7],
        "expanded": flat[3:4].expand(6),
        "overlapping": flat.as_strided((5, 4), (2, 1), 3),
        "whole": flat,
        "empty": flat[:0],
        "one": flat[99:],
    }
    state["tied"] = state["offset"]
    read: Any = check_equal(save(state, tmp_path / "x.pt", container))

    assert read.value["tied"] is read.value["offset"]
    assert 1 == len({block.path for _, block in blocks(read.value)})


@pytest.mark.parametrize("container", CONTAINERS)
def test_model_and_optimizer(tmp_path: Path, container: str) -> None:
    """A model's state and its optimizer's, as a trainer saves them, with everything else kept as it is."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.BatchNorm1d(4)).bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, amsgrad=True)
    model(torch.ones(2, 3, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    value = {
        "model": model.state_dict(),
        "parameters": dict(model.named_parameters()),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "step": np.int64(7),
        "loss": np.float32(0.5),
        "args": argparse.Namespace(lr=0.1, name="x"),
        "path": Path("/some/where"),
        "shape": torch.Size([1, 2]),
        "rng": {
            "python": random.getstate(),
            "numpy": np.random.RandomState(0).get_state(),
            "torch": torch.get_rng_state(),
        },
        "nested": collections.OrderedDict(a=[1, {2: (3.5, None, True, b"bytes")}]),
    }
    read: Any = check_equal(save(value, tmp_path / "x.pt", container)).value
    args: Any = read["args"]

    assert list(model.state_dict()) == list(read["model"])
    assert optimizer.state_dict()["param_groups"] == read["optimizer"]["param_groups"]
    assert scheduler.state_dict() == read["scheduler"]
    assert (7, 0.5, (1, 2)) == (read["step"], read["loss"], read["shape"])
    assert value["nested"] == read["nested"]
    assert random.getstate() == read["rng"]["python"]
    assert ("argparse.Namespace", {"lr": 0.1, "name": "x"}) == (args.name, args.state)
    assert "pathlib.PosixPath" == read["path"].name


def test_tensors_with_attributes(tmp_path: Path) -> None:
    """A tensor that carries Python attributes, as DeepSpeed's flat groups do, is a tensor."""
    tensor = torch.arange(5.0)
    tensor.ds_numel = 5

    assert {"w"} == {name for name, _ in blocks(check_equal(save({"w": tensor}, tmp_path / "x.pt")).value)}


def test_tensors_as_keys(tmp_path: Path) -> None:
    """The state of an optimizer that is saved whole has tensors as keys: each is named by its number."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], momentum=0.9)
    weight.grad = torch.ones(2)
    optimizer.step()
    torch.save(optimizer, tmp_path / "x.pt")

    assert ["param_groups.0.params.0", "state.tensor0.momentum_buffer"] == sorted(
        name for name, _ in blocks(load(tmp_path / "x.pt").value)
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path: Path, protocol: int) -> None:
    """Protocol 2 is what torch writes unless asked otherwise; the newer ones are read, too."""
    torch.save({"w": torch.arange(6.0).reshape(2, 3), "n": 1}, tmp_path / "x.pt", pickle_protocol=protocol)

    check_equal(tmp_path / "x.pt")


def test_any_file_name(tmp_path: Path) -> None:
    """Records lie in a folder named after the file, or after nothing where torch wrote to a stream."""
    check_equal(save({"w": torch.ones(2)}, tmp_path / "pytorch model.v1.bin"))
    with (tmp_path / "stream").open("wb") as stream:
        torch.save({"w": torch.ones(2)}, stream)

    assert "archive/data.pkl" == check_equal(tmp_path / "stream").records[0].name


def test_records_and_names(tmp_path: Path) -> None:
    """The records of the archive and the names that its pickle mentions are reported; the older container has none."""
    path = save({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "x.pt")
    with zipfile.ZipFile(path) as archive:
        expected = {info.filename: info.CRC for info in archive.infolist()}
    read = load(path)

    assert expected == {record.name: record.crc32 for record in read.records}
    assert {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.BFloat16Storage"} == read.globals
    assert () == load(save({"w": torch.ones(2)}, path, "legacy")).records


@pytest.mark.parametrize("container", CONTAINERS)
def test_file_inside_a_file(tmp_path: Path, container: str) -> None:
    """A file embedded in another is read in its place; blocks point into the outer one."""
    save({"w": torch.arange(6.0)}, tmp_path / "x.pt", container)
    data = (tmp_path / "x.pt").read_bytes()
    outer = tmp_path / "outer"
    outer.write_bytes(b"#" * 1001 + data + b"#" * 10)
    block: Any = dict(blocks(load(outer, offset=1001, nbytes=len(data)).value))["w"]

    assert outer == block.path
    assert raw(torch.arange(6.0)) == numbers(block)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(2, 2).to_sparse(),
        lambda: torch.tensor([1 + 2j]).conj(),
        lambda: torch._neg_view(torch.ones(2)),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        lambda: torch.ones(2, dtype=torch.complex128),
    ],
    ids=["sparse", "conjugated", "negated", "quantised", "complex128"],
)
@pytest.mark.filterwarnings("ignore")  # torch deprecates some of what is written here
def test_tensors_that_are_not_read(tmp_path: Path, make: Callable[[], Any]) -> None:
    """What is no array of numbers with a name in safetensors is refused, and the error names the file."""
    path = save({"w": make()}, tmp_path / "x.pt")
    with pytest.raises(UnsupportedTensorError, match=r"x\.pt: it holds a"):
        load(path)


def test_meta_tensors_are_inert(tmp_path: Path) -> None:
    """A tensor without numbers has no place in the file."""
    value: Any = load(save({"w": torch.ones(2, device="meta")}, tmp_path / "x.pt")).value

    assert isinstance(value["w"], Inert)


def test_whole_model_is_refused_until_allowed(tmp_path: Path) -> None:
    """A pickled module names its classes, any of which could run code; each can be allowed by name."""
    path = save(torch.nn.Linear(2, 3), tmp_path / "x.pt")
    with pytest.raises(HostileError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load(path)
    read = load(path, inert=frozenset({"torch.nn.modules.linear.Linear"}))

    assert {"_parameters.weight": (3, 2), "_parameters.bias": (3,)} == {
        name: block.shape for name, block in blocks(read.value)
    }


def test_torchscript_is_named(tmp_path: Path) -> None:
    """An archive of TorchScript holds a program, and is told apart from weights."""
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\2N.")
        archive.writestr("x/constants.pkl", b"\x80\2N.")
    with pytest.raises(FormatError, match="TorchScript"):
        load(tmp_path / "x.pt")


class Canary:
    """Leaves a file behind where it is unpickled for real."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


class CanaryTensor:
    """Runs its function as the one that rebuilds a tensor."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return torch._tensor._rebuild_from_type_v2, (os.system, torch.Tensor, (f"touch {self.path}",), {})


class CanaryLoad:
    """Unpickles what it holds, which is how torch's storages were pickled once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (pickle.dumps(Canary(self.path)),)


def nested(canary: Any) -> Any:
    shared = [canary]
    return {"model": {"w": torch.ones(2)}, "optimizer": {"state": {0: (shared, shared)}}, "again": shared}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("around", [lambda canary: canary, nested, lambda canary: {(1, 2): {canary}}])
@pytest.mark.parametrize("kind", [Canary, CanaryTensor, CanaryLoad])
def test_canaries_stay_silent(tmp_path: Path, container: str, around: Callable[[Any], Any], kind: type) -> None:
    """A pickle that would run a command is refused with exit code 4 and runs nothing, wherever it hides it."""
    path = save(around(kind(tmp_path / "alarm")), tmp_path / "x.pt", container)
    with pytest.raises(HostileError, match=r"system|_load_from_bytes") as caught:
        load(path)

    assert ExitCode.REFUSED is caught.value.exit_code
    assert not (tmp_path / "alarm").exists()
    with contextlib.suppress(Exception):  # the canary can sing, and what it returns is no tensor
        torch.load(path, weights_only=False)
    assert (tmp_path / "alarm").exists()


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Write an archive again with some of its records changed or left out; their checksums are right."""
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            new = change(name.partition("/")[2], data)
            if new is not None:
                archive.writestr(name, new)
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda name, data: b"big" if name == "byteorder" else data, "big-endian"),
        (lambda name, data: None if name == "data/0" else data, "storage '0' is not in the archive"),
        (lambda name, data: data[:-4] if name == "data/0" else data, "should hold 6 F32"),
        (lambda name, data: data + bytes(4) if name == "data/0" else data, "should hold 6 F32"),
        (lambda name, data: None if name == "data.pkl" else data, "no data.pkl"),
        (lambda name, data: data + b"more" if name == "data.pkl" else data, "4 bytes follow the end"),
        (lambda name, data: b"" if name == "data.pkl" else data, "more than there is"),
    ],
)
def test_archive_whose_records_do_not_fit(tmp_path: Path, change: Callable[[str, bytes], Any], says: str) -> None:
    """Pickle and records must tell the same story."""
    path = rewritten(save({"w": torch.arange(6.0)}, tmp_path / "x.pt"), change)
    with pytest.raises(FormatError, match=says):
        load(path)


def test_damaged_pickle_is_found_by_its_checksum(tmp_path: Path) -> None:
    """One bit of a name in the pickle is found, which nothing else in the file would tell; torch does not look."""
    path = save({"weight": torch.arange(6.0)}, tmp_path / "x.pt")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"weight", b"weighu"))

    assert ["weighu"] == list(torch.load(path))
    with pytest.raises(FormatError, match="checksum"):
        load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-1], "cut off"),
        (lambda data: data + b"x", "1 bytes follow"),
        (lambda data: data.replace(b"\x88", b"\x89", 1), "big-endian"),
        (lambda data: data[:-32] + b"\7" + data[-31:], "two lengths"),
        (lambda data: data.replace(b"\x6c\xfc\x9c\x46", b"\x6c\xfc\x9c\x47"), "some other pickle"),
        (lambda data: b"", "it is empty"),
        (lambda data: b"hello", "as neither an archive nor a stream of torch does"),
        (lambda data: pickle.dumps({"a": 1}), "some other pickle"),
    ],
)
def test_legacy_file_that_does_not_fit(tmp_path: Path, change: Callable[[bytes], bytes], says: str) -> None:
    """The older container has no checksums; lengths, order and magic number are checked."""
    path = save({"w": torch.arange(6.0)}, tmp_path / "x.pt", "legacy")
    data = path.read_bytes()
    assert data != change(data)
    path.write_bytes(change(data))
    with pytest.raises(FormatError, match=says):
        load(path)


def test_large_legacy_pickle(tmp_path: Path) -> None:
    """A pickle that is longer than the part that is read first."""
    value = {"w": torch.arange(6.0), "log": ["x" * 100 + str(number) for number in range(30_000)]}

    check_equal(save(value, tmp_path / "x.pt", "legacy"))


def test_limits_are_the_callers(tmp_path: Path) -> None:
    """A caller that expects more may allow more, and the other way round."""
    path = save({"w": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(FormatError, match="10 are allowed"):
        load(path, limits=Limits(pickle_bytes=10))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir()], ids=["pipe", "folder"])
def test_no_plain_file(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """A pipe would block for ever, a folder has no bytes; both are errors at once."""
    make(tmp_path / "x.pt")
    with pytest.raises((FormatError, IsADirectoryError)):
        load(tmp_path / "x.pt")


def test_missing_file(tmp_path: Path) -> None:
    """What is not there is the system's error."""
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "x.pt")
