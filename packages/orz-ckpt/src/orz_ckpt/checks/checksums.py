"""Do the records of a torch archive have the checksums that were written with them?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.torch_contents import TorchContents, damaged_tensors
from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.formats.archive import Record

_COPY = "copy this file again from where it was saved, or use another checkpoint; torch would load it without a word"
_MAX_NAMED = 3


def wrong_records(contents: TorchContents, crc32s: Mapping[str, int]) -> list[Record]:
    """Return the records whose bytes are not those of their checksums; none where the writer left checksums out.

    Without them (`torch.serialization.set_crc32_options(False)`) each is stated as 0: all are wrong, and none says
    anything.
    """
    stated = [record for record in contents.records if record.nbytes]
    wrong = [record for record in stated if crc32s[record.name] != record.crc32]
    return [] if len(wrong) == len(stated) else wrong


def check_records(path: Path, contents: TorchContents, crc32s: Mapping[str, int]) -> Iterator[CkptFinding]:
    """Compare the checksums of all records of an archive with those of its bytes; the older container has neither."""
    wrong = wrong_records(contents, crc32s)
    for record in wrong[:_MAX_NAMED]:
        tensors = damaged_tensors(contents, record)
        message = (
            f"record {brief(record.name)} (bytes {record.offset:,}-{record.end:,}): expected CRC-32 "
            f"{record.crc32:08x}, got {crc32s[record.name]:08x}{named(tensors)}"
        )
        tensor = tensors[0] if tensors else ""
        yield finding("record_crc_differs", message, remedy=_COPY, path=path, tensor=tensor)
    if len(wrong) > _MAX_NAMED:
        message = f"and {len(wrong) - _MAX_NAMED} more records differ"
        yield finding("record_crc_differs", message, remedy=_COPY, path=path)
    if contents.named and not contents.records:
        message = "it is in the container of torch before 1.6, which has no checksums; damage to it cannot be told"
        yield finding("checksums_off", message, path=path)
    if not wrong and any(crc32s[record.name] != record.crc32 for record in contents.records if record.nbytes):
        yield finding("checksums_off", "it was written without checksums; damage to it cannot be told", path=path)


def named(tensors: list[str]) -> str:
    """Return what to say of the tensors in a damaged part."""
    if not tensors:
        return ""
    more = f" and {len(tensors) - _MAX_NAMED} more" if len(tensors) > _MAX_NAMED else ""
    return f": damaged in {', '.join(brief(name) for name in tensors[:_MAX_NAMED])}{more}"
