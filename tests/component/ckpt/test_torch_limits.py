"""Torch files made to exhaust memory or time: refused within 256 MB of address space and a minute."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

HERE = Path(__file__).parent
MEMORY_BYTES = 256 * 1024 * 1024
MANY = 400_000
HUGE = struct.pack("<Q", 2**62)

PICKLES = {
    "lists": b"]" * MANY,
    "dictionaries": b"}" * MANY,
    "sets": b"\x8f" * MANY,
    "marks": b"(" * 1_000_000,
    "memo": b"N" + b"\x94" * 1_100_000,
    "tuples": b")" + b"\x85" * 600_000,
    "texts": b"X\0\0\0\0" * 1_500_000,
    "text of wide letters": b"X"
    + struct.pack("<I", 15_000_000)
    + "\U0001f600".encode()
    + b"a" * (15_000_000 - 4)
    + b".",
    "names": b"ctorch\nSize\n" * MANY,
    "objects": b"cargparse\nNamespace\n\x94" + b"h\0)\x81" * MANY,
    "ordered dictionaries": b"ccollections\nOrderedDict\n\x94" + b"h\0)R" * MANY,
    "nested lists": b"]" * 300_000 + b"a" * 299_999 + b".",
    "nested tuples": b")" + b"\x85" * 300_000 + b".",
    "nested objects": b"cargparse\nNamespace\n\x940" + b"h\0)\x81" * 200_000 + b"b" * 199_999 + b".",
    "nested objects in a circle": b"cargparse\nNamespace\n\x940"
    b"h\0)\x81\x94" + b"h\0)\x81" * 100_000 + b"h\1b" + b"b" * 100_000 + b".",
    "objects that hold the first": b"cargparse\nNamespace\n\x94)\x81\x94](" + b"h\0)\x81h\1b" * 180_000 + b"eb.",
    "references back": b"cargparse\nNamespace\n)\x81\x94](" + b"h\0" * 1_280_000 + b"eb.",
    "pairs of pairs": b")" + b"2\x86" * 60 + b".",
    "pairs of pairs as a key": b"})" + b"2\x86" * 60 + b"Ns.",
    "deep key": b"})" + b"\x85" * 300_000 + b"Ns.",
    "length of bytes": b"\x8e" + HUGE + b".",
    "length of a text": b"\x8d" + HUGE + b".",
    "length of a frame": b"\x95" + HUGE + b".",
    "length of an integer": b"\x8b" + struct.pack("<I", 2**31 - 1) + b".",
    "bytearray of a length": b"cbuiltins\nbytearray\n\x8a\x06" + b"\1" * 6 + b"\x85R.",
    "copies": b"cbuiltins\nlist\n\x94](" + b"N" * 100_000 + b"e\x94" + b"h\0h\1\x85R" * 10_000 + b".",
    "wide dictionary": b"}(" + b"".join(b"J" + struct.pack("<i", number) + b"N" for number in range(MANY)) + b"u0.",
    "expanded tensor": b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
    b"0X\3\0\0\0cpuK\1tQK\0\x8a\x05\0\0\0\0\1\x85K\0\x85\x89}tR.",
}

READ = ("text of wide letters", "objects that hold the first")
"""Those that fit."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An archive around each pickle, a plain stream that begins like the older container, and a sparse file."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = []
    for name, data in PICKLES.items():
        path = folder / f"{name}.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", b"\x80\4" + data)
            archive.writestr("x/data/0", bytes(4))
            archive.writestr("x/version", b"3\n")
        paths.append(path)
    legacy = folder / "legacy.pt"
    legacy.write_bytes(b"\x80\2" + b"]" * 3_000_000)
    sparse = folder / "sparse.pt"
    sparse.touch()
    os.truncate(sparse, 2**40)
    return [*paths, legacy, sparse]


def test_memory_and_time(files: list[Path]) -> None:
    """Each file is an error of ours or fits, in one process that may take 256 MB and 60 seconds for all of them."""
    expected = {path.stem: "FormatError" for path in files} | dict.fromkeys(READ, "read")
    script = [sys.executable, str(HERE / "read_torch.py"), str(MEMORY_BYTES), *map(str, files)]
    run = subprocess.run(
        script, capture_output=True, text=True, check=False, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    )

    assert ("", 0) == (run.stderr, run.returncode)
    assert expected == dict(zip(expected, run.stdout.splitlines(), strict=True))
