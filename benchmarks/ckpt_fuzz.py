"""Feeds bytes that libFuzzer makes up to the readers of weights: nothing may be raised but our own errors.

    python benchmarks/ckpt_fuzz.py pickle|torch|archive|safetensors [-max_total_time=60] [CORPUS_FOLDER]

`torch` reads files of `torch.save`, in either container; `pickle` the program in them alone, `archive` the directory of
the ZIP alone. What comes out has to lie inside the file. Now and then a part of an input is repeated up to a megabyte:
what takes time by the square of that does not end within the limit. Needs atheris, which is not among the packages of
every session: install it beside them (`pip install --no-deps --target FOLDER -r requirements/full-monitor.txt`,
PYTHONPATH=FOLDER). A find stops it and leaves the bytes in `crash-*`, `timeout-*` or `oom-*`; it becomes a case of
`tests/property/ckpt` or `tests/unit/ckpt`.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import atheris
from fuzzing import fuzz, grown

with atheris.instrument_imports(include=["orz_ckpt"]):
    from orz_ckpt.errors import FormatError, HostileError
    from orz_ckpt.formats.archive import read_records
    from orz_ckpt.formats.inert import BadPickleError, Limits, blocks
    from orz_ckpt.formats.inert_pickle import load_pickle
    from orz_ckpt.formats.safetensors import parse_header
    from orz_ckpt.formats.torch_contents import contents_of
    from orz_ckpt.formats.torch_file import load

SLOWEST_S = 20
"""An instrumented reader on a busy machine is slow; what is quadratic takes far longer on a megabyte."""
MEMORY_MB = 1024
LONGEST = 1 << 14
LIMITS = Limits(memory_bytes=64 * 1024 * 1024)
_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
_PROGRAM = (
    b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\x00\x00\x00storage"
    b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x00K\x02\x85K\x01\x85\x89ccollections\n"
    b"OrderedDict\n)RtRs."
)
"""`{"w": tensor}` as torch writes it, of two numbers in the storage `0`."""
_HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"format":"pt"}}'


def expect(claim: object) -> None:
    """Stop the fuzzer where a reader says what cannot be."""
    if not claim:
        raise AssertionError("a reader took an input for what it is not")


def read_pickle(data: bytes) -> None:
    """Read bytes as a pickle, bare."""
    with contextlib.suppress(BadPickleError, HostileError):
        load_pickle(grown(data), limits=LIMITS)


def read_torch(data: bytes) -> None:
    """Read bytes as a file of torch; every tensor lies in it."""
    path, data = _FOLDER / "input.pt", grown(data)
    path.write_bytes(data)
    try:
        read = load(path, limits=LIMITS)
    except (FormatError, HostileError):
        return
    contents = contents_of(read)
    expect(all(0 <= tensor.offset <= tensor.end <= len(data) for tensor in contents.tensors))
    for _, block in blocks(read.value):
        last = sum((size - 1) * stride for size, stride in zip(block.shape, block.strides, strict=True))
        expect(not block.numel or block.offset + (last + 1) * block.itemsize <= len(data))


def read_archive(data: bytes) -> None:
    """Read bytes as the directory of an archive; every record lies in it, none in another."""
    data = grown(data)
    try:
        records = read_records(io.BytesIO(data))
    except (FormatError, HostileError):
        return
    end = 0
    for record in records:
        expect(end <= record.offset <= record.end <= len(data))
        end = record.end


def read_safetensors(data: bytes) -> None:
    """Read bytes as a header of safetensors, whose length is made to fit, with some numbers behind it."""
    header = grown(data)
    numbers = bytes(data[0] if data else 0)
    file = len(header).to_bytes(8, "little") + header + numbers
    try:
        read = parse_header(io.BytesIO(file))
    except FormatError:
        return
    end = read.data_offset
    for tensor in read.tensors:
        expect(end == tensor.offset <= tensor.end)
        end = tensor.end
    expect(len(file) == end)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "pickle": read_pickle,
    "torch": read_torch,
    "archive": read_archive,
    "safetensors": read_safetensors,
}


def seeds(name: str) -> list[bytes]:
    """Return what the fuzzer begins with, each sound; the first byte leaves them as they are, or makes them long."""
    sound = {
        "pickle": [_PROGRAM, pickle.dumps({"lr": 0.5, "steps": [1, 2], "seen": {3}, "name": "x"}, protocol=4)],
        "torch": [_archive(), _archive(checksums=False), *_saved()],
        "archive": [_archive()],
        "safetensors": [_HEADER],
    }[name]
    return [first + data for data in sound for first in (b"\x08", b"\0\x10\x08")]


def _archive(*, checksums: bool = True) -> bytes:
    """Return an archive as torch's; without checksums its pickle can change, and is read all the same."""
    stream = io.BytesIO()
    records = {"data.pkl": _PROGRAM, "data/0": bytes(8), "version": b"3\n"}
    with zipfile.ZipFile(stream, "w") as file:
        for name, data in records.items():
            file.writestr(zipfile.ZipInfo(f"x/{name}"), data)
    data = stream.getvalue()
    if not checksums:
        for content in records.values():
            data = data.replace(zlib.crc32(content).to_bytes(4, "little"), bytes(4))
    return data


def _saved() -> list[bytes]:
    """Return files of torch itself, of both containers, where it is installed."""
    try:
        import torch  # noqa: PLC0415 - the readers need none
    except ImportError:
        return []
    found = []
    for archive in (True, False):
        stream = io.BytesIO()
        value = {"w": torch.arange(6.0).reshape(2, 3), "step": 7, "shape": torch.Size([1])}
        torch.save(value, stream, _use_new_zipfile_serialization=archive)
        found.append(stream.getvalue())
    return found


if __name__ == "__main__":
    fuzz(
        TARGETS,
        seeds,
        folder=_FOLDER,
        limits=(f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={LONGEST}"),
        usage=(__doc__ or "").partition("\n\n")[2],
    )
