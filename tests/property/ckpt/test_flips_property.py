"""One wrong bit anywhere in a file of torch: never a pass. In one packed again, only where no reader of weights reads.

What may flip unseen in an archive that another program wrote are fields of the central directory: which program made
a record, whether its content is text, and the permissions of the file that it was. torch's reader and Python's
`zipfile` take neither name, place, size nor bytes of a record from them.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.verify import verify
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.property

SAYS_NOTHING = {4: 0xFF, 5: 0xFF, 36: 0x01, 38: 0x21, 40: 0xFF, 41: 0xFF}
"""Byte of a header in the central directory -> the bits of it that may flip: made by, text, attributes."""


def saved(path: Path) -> bytes:
    """Write a small file of `torch.save`, and return its bytes."""
    torch.save({"w": torch.arange(1.0, 7.0).reshape(2, 3), "h": torch.ones(3, dtype=torch.bfloat16), "step": 7}, path)
    return path.read_bytes()


def packed_again(path: Path) -> bytes:
    """Write it again as Python stores files, and return its bytes."""
    with zipfile.ZipFile(io.BytesIO(saved(path))) as before, zipfile.ZipFile(path, "w") as after:
        for entry in before.infolist():
            after.writestr(entry.filename, before.read(entry))
    return path.read_bytes()


def unseen(path: Path, data: bytes, bits: Callable[[int], Iterable[int]]) -> list[tuple[int, int]]:
    """Return the places and bits that can flip without `verify` telling."""
    assert Status.OK is verify(path).status()
    found = []
    for place in range(len(data)):
        for bit in bits(place):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            if not verify(path).status().exit_code:
                found.append((place, bit))
    return found


def some(place: int) -> list[int]:
    """Return one bit of a byte, another one from byte to byte."""
    return [place * 5 % 8]


def test_a_flip_in_each_byte_of_a_file_of_torch(tmp_path: Path) -> None:
    """Whatever the byte is: signature, size, name, time, attributes, padding, pickle or number."""
    assert [] == unseen(tmp_path / "x.pt", saved(tmp_path / "x.pt"), some)


@pytest.mark.full
def test_every_flip_of_a_file_of_torch(tmp_path: Path) -> None:
    """Each bit of each byte."""
    assert [] == unseen(tmp_path / "x.pt", saved(tmp_path / "x.pt"), lambda _: range(8))


def check_packed_again(path: Path, bits: Callable[[int], Iterable[int]]) -> None:
    data = packed_again(path)
    found = unseen(path, data, bits)
    expected = torch.load(io.BytesIO(data))
    headers = [place for place in range(len(data)) if data[place : place + 4] == b"PK\1\2"]
    for place, bit in found:
        within = place - max(header for header in headers if header <= place)
        assert SAYS_NOTHING.get(within, 0) & 1 << bit, (place, bit)
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        read = torch.load(io.BytesIO(changed))
        assert [7, True, True] == [read["step"], *(torch.equal(expected[key], read[key]) for key in "wh")]
    assert found


def test_a_flip_in_each_byte_of_a_file_packed_again(tmp_path: Path) -> None:
    """What is not told changes nothing that torch reads."""
    check_packed_again(tmp_path / "x.pt", some)


@pytest.mark.full
def test_every_flip_of_a_file_packed_again(tmp_path: Path) -> None:
    """Each bit of each byte."""
    check_packed_again(tmp_path / "x.pt", lambda _: range(8))
