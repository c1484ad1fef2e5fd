"""Fields of an archive that say nothing of its content: torch's have one right value, other writers' must agree."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from orz_ckpt.formats.archive_fields import Fields, strange_end, strange_extra, strange_record

pytestmark = pytest.mark.unit

TORCH = Fields(flags=0x808, made_by=0, needed=0, modified=(0, 0), internal=0, external=0)
PYTHON = Fields(flags=0, made_by=0x314, needed=20, modified=(1, 33), internal=0, external=0o100644 << 16)
PADDING = {0x4246: b"ZZZ"}


def wide(*numbers: int) -> dict[int, bytes]:
    return {1: struct.pack(f"<{len(numbers)}Q", *numbers)}


def test_what_is_torchs() -> None:
    """A descriptor follows where there are bytes; what `zipfile` packs again with torch's fields has no such flags."""
    assert TORCH.of_torch(8)
    assert TORCH._replace(flags=0x800).of_torch(0)
    assert not TORCH._replace(flags=0x800).of_torch(8)
    assert not TORCH.of_torch(0)
    assert not TORCH._replace(flags=0).of_torch(8)
    assert not TORCH._replace(needed=20).of_torch(8)


@pytest.mark.parametrize("bit", range(16))
@pytest.mark.parametrize("name", ["made_by", "internal", "external"])
def test_torch_leaves_a_field_zero(name: str, bit: int) -> None:
    """Any bit of what torch leaves zero is told."""
    assert "" == strange_record(TORCH, 0, (0, 0), by_torch=True)
    changed: dict[str, Any] = {name: 1 << bit}
    assert strange_record(TORCH._replace(**changed), 0, (0, 0), by_torch=True)


@pytest.mark.parametrize(
    ("changes", "needed", "modified", "says"),
    [
        ({}, 20, (1, 33), ""),
        ({}, 45, (1, 33), ""),
        ({"needed": 45}, 20, (1, 33), ""),
        ({"made_by": 0x31E}, 20, (1, 33), ""),
        ({"internal": 1}, 20, (1, 33), ""),
        ({"external": 0o600 << 16}, 20, (1, 33), ""),
        ({"external": 0x21}, 20, (1, 33), ""),
        ({}, 21, (1, 33), "two versions"),
        ({}, 20, (2, 33), "two times"),
        ({}, 20, (1, 32), "two times"),
        ({"internal": 2}, 20, (1, 33), "no ordinary file"),
        ({"external": 0o120777 << 16}, 20, (1, 33), "no ordinary file"),
        ({"external": 0o040755 << 16}, 20, (1, 33), "no ordinary file"),
        ({"external": 0x10}, 20, (1, 33), "no ordinary file"),
    ],
)
def test_other_writers(changes: dict[str, Any], needed: int, modified: tuple[int, int], says: str) -> None:
    """Times and permissions are free, and the same in both headers; links and folders are no records."""
    strange = strange_record(PYTHON._replace(**changes), needed, modified, by_torch=False)

    assert (says in strange, bool(says)) == (True, bool(strange))


@pytest.mark.parametrize(
    ("extra", "torchs", "others"),
    [
        (PADDING, "", ""),
        ({0x4246: b""}, "", ""),
        (wide(700, 0) | PADDING, "", ""),
        (wide(700, 0, 64) | PADDING, "", ""),
        (wide(64) | PADDING, "", ""),
        ({}, "no padding", ""),
        ({0x5455: b"\3time"} | PADDING, "not known", ""),
        ({0x7075: b"other name"} | PADDING, "not known", "not known"),
        ({0x4246: b"ZZY"}, "fills it", "fills it"),
        (wide(701, 0) | PADDING, "another size", "another size"),
        ({1: b"\0"} | PADDING, "another size", "another size"),
    ],
)
def test_extra_fields(extra: dict[int, bytes], torchs: str, others: str) -> None:
    """Padding of `Z`, ZIP64 fields that repeat what is known: a record of 700 bytes whose header is at 64."""
    for says, by_torch in ((torchs, True), (others, False)):
        strange = strange_extra(extra, 700, 64, by_torch=by_torch)
        assert (says in strange, bool(says)) == (True, bool(strange))


def test_versions_of_the_end() -> None:
    """ZIP64 needs version 45: torch writes 0x031E and 45, `zipfile` 45 twice."""
    assert ["", ""] == [strange_end(0x031E, 45, by_torch=by_torch) for by_torch in (True, False)]
    assert ["", True] == [strange_end(45, 45, by_torch=False), bool(strange_end(45, 45, by_torch=True))]
    assert all(strange_end(0x031E, 45 ^ 1 << bit, by_torch=False) for bit in range(16))
