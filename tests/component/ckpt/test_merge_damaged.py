"""Damage that `verify` finds gets no clean manifest from `merge`, `convert` or `manifest`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.formats.torch_file import load
from orz_ckpt.manifest import MANIFEST_NAME
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

    Json = Callable[..., tuple[int, dict[str, Any]]]

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

pytestmark = pytest.mark.component


@pytest.fixture
def judged(capsys: pytest.CaptureFixture[str]) -> Json:
    """The command with `--json`: its exit code, and what it writes."""

    def call(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
        code = main(["ckpt", *map(str, arguments), "--json"])
        return int(code), json.loads(capsys.readouterr().out)

    return call


def found(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return severity, code and tensor of what was found, without notes."""
    return [
        (entry["severity"], entry["code"], entry["tensor"])
        for entry in document["findings"]
        if entry["severity"] != "info"
    ]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def place_of(path: Path, name: str) -> int:
    """Return the first byte of a tensor of a safetensors file."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    return 8 + length + int(header[name]["data_offsets"][0])


def to_torch(model: Path, out: Path) -> Path:
    """Return the weights of a folder as torch saves them, with its config.json."""
    out.mkdir()
    tensors: dict[str, Any] = {}
    for file in model.glob("*.safetensors"):
        tensors |= {name: torch.from_numpy(array) for name, array in load_file(file).items()}
    torch.save(tensors, out / "pytorch_model.bin")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(model / name, out)
    return out


def cut_hole(path: Path, begin: int, end: int) -> None:
    """Write a file again without some bytes in its middle: it has its length, and reads as zeros there."""
    data = path.read_bytes()
    with path.open("wb") as stream:
        stream.write(data[:begin])
        stream.seek(end)
        stream.write(data[end:])
    if path.stat().st_blocks * 512 >= len(data):
        pytest.skip("this file system keeps no holes")


def large_model(folder: Path) -> Path:
    """Write a folder whose weights have room for holes; `b` is zeros from its 1000th number to its last but 1000th."""
    folder.mkdir()
    arrays = {name: np.full(40_000, 1 + number, np.float32) for number, name in enumerate("abc")}
    arrays["b"][1000:-1000] = 0
    save_file(arrays, folder / "model.safetensors")
    return folder


def damaged_record(path: Path) -> None:
    """Flip a bit in the largest record of numbers."""
    records = [record for record in load(path).records if "/data/" in record.name]
    flip(path, max(records, key=lambda record: record.nbytes).offset + 5)


@pytest.mark.parametrize("options", [(), ("--dtype", "bfloat16"), ("--max-shard-size", "4kB")])
def test_flipped_bit_of_a_step(judged: Json, step: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """A step's manifest convicts a bit of a tensor, cast or not, as `verify` does: exit 1, and nothing at OUT."""
    file = step / "policy" / "model-00001-of-00002.safetensors"
    name = sorted(load_file(file))[3]
    out = tmp_path / "out"
    assert 0 == judged("merge", step / "policy", tmp_path / "before", *options)[0]
    flip(file, place_of(file, name) + 2)
    code, document = judged("merge", step / "policy", out, *options)

    assert (1, False) == (code, document["written"])
    (entry,) = found(document)
    assert ("error", "digest_differs") == entry[:2]
    assert str(file) in {entry["path"] for entry in document["findings"]}
    assert entry[2] == ("" if "--dtype" in options else name)  # of a cast tensor the whole file tells
    assert [] == [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("out")]
    assert "digest_differs" in {entry["code"] for entry in judged("verify", step)[1]["findings"]}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_flipped_bit_beside_the_weights(judged: Json, step: Path, tmp_path: Path, name: str) -> None:
    """What is copied along is compared, too."""
    file = step / "policy" / name
    file.write_bytes(file.read_bytes().replace(b", ", b",\t", 1) if name == "config.json" else b"[]")
    code, document = judged("merge", step / "policy", tmp_path / "out")

    assert (1, [("error", "digest_differs", "")]) == (code, found(document))
    assert str(file) in {entry["path"] for entry in document["findings"]}
    assert not (tmp_path / "out").exists()


def test_header_that_is_not_the_one_that_was_saved(judged: Json, step: Path, tmp_path: Path) -> None:
    """Two tensors that changed names have the bytes that they had; the manifest tells them apart."""
    file = step / "policy" / "model-00001-of-00002.safetensors"
    tensors = load_file(file)
    first, second = next(
        (a, b) for a in sorted(tensors) for b in sorted(tensors) if a < b and tensors[a].shape == tensors[b].shape
    )
    data = file.read_bytes()
    a, b = (f'"{name}"'.encode() for name in (first, second))
    data = data.replace(a, b'"?"', 1).replace(b, a, 1).replace(b'"?"', b, 1)
    file.write_bytes(data)
    code, document = judged("merge", step / "policy", tmp_path / "out")

    assert 1 == code
    assert {"tensor_differs"} == {code for _, code, _ in found(document)}


def test_torn_manifest_of_the_step(judged: Json, step: Path, tmp_path: Path) -> None:
    """What a torn manifest says cannot be compared with: an error, as for `verify`."""
    file = step / MANIFEST_NAME
    file.write_bytes(file.read_bytes()[:-20])
    code, document = judged("merge", step / "policy", tmp_path / "out")

    assert 1 == code
    assert [("error", "manifest_torn", "")] == found(document)


@pytest.mark.parametrize("dtype", ["keep", "bfloat16"])
def test_wrong_checksum_of_a_record(judged: Json, model: Path, tmp_path: Path, dtype: str) -> None:
    """The CRC-32 of a record convicts a bit that torch would load without a word."""
    source = to_torch(model, tmp_path / "torch")
    damaged_record(source / "pytorch_model.bin")
    code, document = judged("merge", source, tmp_path / "out", "--dtype", dtype)
    (entry,) = found(document)

    assert (1, "error", "record_crc_differs") == (code, *entry[:2])
    assert entry[2] in {name for file in model.glob("*.safetensors") for name in load_file(file)}
    assert not (tmp_path / "out").exists()
    assert entry in found(judged("verify", source)[1])
    assert 1 == judged("convert", source, tmp_path / "converted", "--to", "hf")[0]
    assert not (tmp_path / "converted").exists()


def test_transposed_tensors_have_their_checksums_compared(judged: Json, tmp_path: Path) -> None:
    """A tensor that lies in its file in another order is read in steps, and is compared all the same."""
    folder = tmp_path / "torch"
    folder.mkdir()
    torch.save({"a": torch.arange(600.0).reshape(20, 30).T, "b": torch.arange(7.0)}, folder / "pytorch_model.bin")
    assert 0 == judged("merge", folder, tmp_path / "sound")[0]
    damaged_record(folder / "pytorch_model.bin")
    code, document = judged("merge", folder, tmp_path / "out")

    assert 1 == code
    assert ("error", "record_crc_differs", "a") in found(document)


def test_manifest_vouches_for_no_wrong_checksum(judged: Json, model: Path, tmp_path: Path) -> None:
    """`manifest` reads every byte, and finds what the checksums of the archive convict."""
    source = to_torch(model, tmp_path / "torch")
    damaged_record(source / "pytorch_model.bin")
    code, document = judged("manifest", source)

    assert 1 == code
    assert {"record_crc_differs"} == {code for _, code, _ in found(document)}
    assert not (source / MANIFEST_NAME).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="holes are asked for with SEEK_HOLE")
@pytest.mark.parametrize("command", [("merge",), ("merge", "--dtype", "bfloat16"), ("convert", "--to", "hf")])
@pytest.mark.parametrize("torch_file", [False, True])
def test_holes(judged: Json, tmp_path: Path, command: tuple[str, ...], *, torch_file: bool) -> None:
    """A file that was never written to its end gets no clean manifest: the finding is that of `verify`, exit 1 (F9)."""
    source = large_model(tmp_path / "model")
    file = source / "model.safetensors"
    if torch_file:
        arrays = load_file(file)
        torch.save({name: torch.from_numpy(arrays[name]) for name in "abc"}, source / "pytorch_model.bin")
        file.unlink()
        file = source / "pytorch_model.bin"
    cut_hole(file, 200 * 1024, 256 * 1024)
    code, document = judged(command[0], source, tmp_path / "out", *command[1:])

    assert (1, [("error", "file_holes", "b")]) == (code, [entry for entry in found(document) if entry[0] == "error"])
    assert not (tmp_path / "out").exists()
    (entry,) = (entry for entry in document["findings"] if entry["code"] == "file_holes")
    assert entry in judged("verify", source, "--level", "quick")[1]["findings"]


@pytest.mark.skipif(sys.platform != "linux", reason="holes are asked for with SEEK_HOLE")
def test_holes_that_a_digest_vouches_for(judged: Json, tmp_path: Path) -> None:
    """Zeros that were committed are no damage, however a copy stores them."""
    source = large_model(tmp_path / "model")
    before = load_file(source / "model.safetensors")
    assert 0 == judged("manifest", source)[0]
    cut_hole(source / "model.safetensors", 200 * 1024, 256 * 1024)
    code, document = judged("merge", source, tmp_path / "out")

    assert (0, True) == (code, document["written"])
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: array.tobytes() for name, array in before.items()} == {
        name: array.tobytes() for name, array in after.items()
    }


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "part.safetensors", "part.pt"])
def test_weights_that_were_spread_over_ranks(judged: Json, tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    """What ZeRO-3 leaves of weights when nobody gathers them is no model, for `merge` as for `verify` (F15)."""
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    save(model / name, {"w": np.zeros(shape, np.float32), "norm": np.ones(8, np.float32)})
    source = model / name if name.startswith("part") else model
    expected = (1, [("error", "tensor_empty", "w")])

    for arguments in (["verify", source], ["merge", source, out], ["convert", source, out, "--to", "hf"]):
        code, document = judged(*arguments)
        assert expected == (code, [entry for entry in found(document) if entry[0] == "error"])
    assert not out.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_state_without_elements_is_no_weight(judged: Json, tmp_path: Path, name: str) -> None:
    """Layers that quantise keep states that may be empty."""
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    save(model / name, {"w": np.ones((2, 4), np.float32), "w._extra_state": np.zeros(0, np.uint8)})

    assert [0, 0, 0] == [judged(*words)[0] for words in (["verify", model], ["merge", model, out], ["verify", out])]


def save(path: Path, arrays: dict[str, Any]) -> None:
    if path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)


@pytest.mark.parametrize("dtype", ["keep", "bfloat16", "float16"])
def test_weights_of_zeros(judged: Json, model: Path, tmp_path: Path, dtype: str) -> None:
    """A model of nothing but zeros is written as it is, and a warning says so; norms and biases do not count."""
    for file in model.glob("*.safetensors"):
        save_file({name: array * 0 if array.ndim > 1 else array for name, array in load_file(file).items()}, file)
    code, document = judged("merge", model, tmp_path / "out", "--dtype", dtype)

    assert (0, [("warn", "all_zero_model", "")]) == (code, found(document))
    assert ("error", "all_zero_model", "") in found(judged("verify", model)[1])
    assert 1 == judged("merge", model, tmp_path / "strict", "--dtype", dtype, "--fail-on", "warn")[0]


def test_one_weight_that_is_not_zero(judged: Json, model: Path, tmp_path: Path) -> None:
    """One number, the last of the last matrix and as small as there is, and the model is not all zeros."""
    files = sorted(model.glob("*.safetensors"))
    for file in files:
        save_file({name: array * 0 for name, array in load_file(file).items()}, file)
    tensors = load_file(files[-1])
    name = max(name for name, array in tensors.items() if array.ndim > 1)
    tensors[name][-1, -1] = np.finfo(np.float32).smallest_subnormal
    save_file(tensors, files[-1])

    assert (0, []) == (judged("merge", model, tmp_path / "out")[0], found(judged("merge", model, tmp_path / "two")[1]))


@pytest.mark.parametrize("dtype", ["keep", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told(judged: Json, model: Path, tmp_path: Path, value: float, dtype: str) -> None:
    """A merge changes no number: NaN is written, and said as a warning with the tensor; `verify` then fails."""
    file = next(model.glob("model-00002*"))
    tensors = load_file(file)
    name = sorted(tensors)[1]
    tensors[name].reshape(-1)[1] = value
    save_file(tensors, file)
    code, document = judged("merge", model, tmp_path / "out", "--dtype", dtype)

    assert (0, [("warn", "not_finite", name)]) == (code, found(document))
    assert 1 == judged("merge", model, tmp_path / "strict", "--fail-on", "warn")[0]
    assert 1 == judged("verify", tmp_path / "out")[0]


def of_numbers(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what was found, but that the index states the size in another type."""
    return [entry for entry in found(document) if entry[1] != "total_size_differs"]


def set_numbers(model: Path, numbers: dict[int, float], dtype: Any) -> tuple[Path, str]:
    """Put numbers into a tensor of the second file; return both."""
    file = next(model.glob("model-00002*"))
    tensors = {name: tensor.to(dtype) for name, tensor in safetensors_torch.load_file(file).items()}
    name = sorted(tensors)[1]
    for place, number in numbers.items():
        tensors[name].view(-1)[place] = number
    safetensors_torch.save_file(tensors, file)
    return file, name


@pytest.mark.parametrize(
    ("stored", "numbers", "dtype", "says"),
    [
        (torch.bfloat16, {1: 1e38}, "float16", "1 number does not fit float16 (max 65504)"),
        (torch.float32, {1: 65520.0, 2: -1e6, 3: 65519.0}, "float16", "2 numbers do not fit float16 (max 65504)"),
        (torch.float32, {1: 3.4e38}, "bfloat16", "1 number does not fit bfloat16 (max 3.38953e+38)"),
        (torch.float64, {1: 1e300}, "float32", "1 number does not fit float32 (max 3.40282e+38)"),
    ],
)
def test_number_that_the_type_is_too_narrow_for(
    judged: Json, model: Path, tmp_path: Path, stored: Any, numbers: dict[int, float], dtype: str, says: str
) -> None:
    """A sound model that a type cannot hold is not blamed on its training: exit 1, another type, nothing written."""
    file, name = set_numbers(model, numbers, stored)
    assert 0 == judged("verify", model)[0]
    code, document = judged("merge", model, tmp_path / "out", "--dtype", dtype)

    assert (1, [("error", "number_overflows", name)]) == (code, of_numbers(document))
    (entry,) = (entry for entry in document["findings"] if entry["code"] == "number_overflows")
    assert (str(file), f"'{name}': {says} and would be written as Inf") == (entry["path"], entry["message"])
    assert "--dtype" in entry["remedy"]
    assert [] == [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("out")]
    assert 0 == judged("merge", model, tmp_path / "out")[0]


def test_infinity_of_the_source_is_no_overflow(judged: Json, model: Path, tmp_path: Path) -> None:
    """What is NaN or Inf already is told as before, and beside it what the type makes of the others."""
    _, name = set_numbers(model, {0: np.inf, 1: np.nan, 2: -np.inf}, torch.bfloat16)
    code, document = judged("merge", model, tmp_path / "out", "--dtype", "float16")
    assert (0, [("warn", "not_finite", name)]) == (code, of_numbers(document))

    set_numbers(model, {3: 1e5}, torch.bfloat16)
    code, document = judged("merge", model, tmp_path / "more", "--dtype", "float16")
    assert (1, [("error", "number_overflows", name), ("warn", "not_finite", name)]) == (code, of_numbers(document))
    (entry,) = (entry for entry in document["findings"] if entry["code"] == "number_overflows")
    assert "1 number does not fit float16" in entry["message"]


def test_a_place_where_nothing_can_be_made(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Why it cannot be is said, and nothing of free space, which is not the matter."""
    assert 1 == main(["ckpt", "merge", str(model), "/proc/merged"])
    said = capsys.readouterr().err

    assert "/proc/merged was not written: No such file or directory" in said
    assert "are free" not in said
