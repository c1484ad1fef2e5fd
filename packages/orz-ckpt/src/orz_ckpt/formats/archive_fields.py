"""The fields of a ZIP archive that say nothing of its content, and what each of them may hold.

No reader of weights looks at them, so damage to them could go unseen. But each writer fills them in its own way:

torch (`caffe2/serialize/inline_container.cc`, which calls `third_party/miniz`) writes no time, no attributes and 0 for
all versions of a record; 0x031E and 45 for those of the ZIP64 end record; and in each local header a field `FB` of
letters `Z`, which moves the content to a multiple of 64 bytes. There every one of these fields has one right value.

Other writers (Python's `zipfile`, Info-ZIP's `zip -0`) write times and attributes of files. There both headers must
give the same time, need the same version unless ZIP64 asks one of them for 45, and describe an ordinary file. The time
itself, the owner, the permissions, the program that wrote a record, and whether it is text, may be anything.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

HAS_DESCRIPTOR: Final = 0x0008
UTF_8: Final = 0x0800
ZIP64_FIELD: Final = 0x0001
HARMLESS_FIELDS: Final = frozenset({ZIP64_FIELD, 0x5455, 0x7875})
"""Sizes, and what Info-ZIP adds: times and owners. Others can give a record another name."""

_PADDING_FIELD: Final = 0x4246
_PADDING: Final = b"Z"
_TORCH_EXTRA: Final = frozenset({ZIP64_FIELD, _PADDING_FIELD})
_OTHER_EXTRA: Final = _TORCH_EXTRA | HARMLESS_FIELDS
_ZIP64_VERSION: Final = 45
_TORCH_END: Final = (0x031E, _ZIP64_VERSION)
_TEXT: Final = 1
"""The one internal attribute that a writer sets: whether the content seems to be text."""
_ORDINARY: Final = 0x21
"""Attributes of DOS that leave a file an ordinary one: read-only, and to be archived."""


class Fields(NamedTuple):
    """What the directory says of a record beside its name, place, size and checksum."""

    flags: int
    made_by: int
    needed: int
    """The version of the format that a reader must know."""
    modified: tuple[int, int]
    """Time and date, as DOS writes them."""
    internal: int
    external: int
    """Attributes of the file that it was: those of Unix in the upper half, those of DOS in the lower one."""

    def of_torch(self, nbytes: int) -> bool:
        """Return whether a record of so many bytes may be torch's: a zero version, and a descriptor if it has bytes."""
        return self.needed == 0 and self.flags == (UTF_8 | HAS_DESCRIPTOR if nbytes else UTF_8)


_TORCH_FIELDS: Final = Fields(flags=0, made_by=0, needed=0, modified=(0, 0), internal=0, external=0)[1:]
"""All but the flags of any record that torch writes."""


def strange_record(fields: Fields, needed: int, modified: tuple[int, int], *, by_torch: bool) -> str:
    """Return what is wrong about a record whose local header states `needed` and `modified`; empty if nothing is."""
    if fields.modified != modified:
        return "its headers give it two times"
    if needed != fields.needed and _ZIP64_VERSION not in {needed, fields.needed}:
        return "its headers need two versions of the format"
    if by_torch:
        wrong = fields[1:] != _TORCH_FIELDS or needed
        return "it has a version, a time or attributes, and torch writes none" if wrong else ""
    kind = stat.S_IFMT(fields.external >> 16)
    ordinary = kind in {0, stat.S_IFREG} and not fields.external & 0xFFFF & ~_ORDINARY
    return "" if ordinary and fields.internal in {0, _TEXT} else "it is no ordinary file"


def strange_extra(extra: Mapping[int, bytes], nbytes: int, header: int, *, by_torch: bool) -> str:
    """Return what is wrong about the extra fields of a local header; empty if nothing is.

    Args:
        extra: the fields, by their kind.
        nbytes: the size of the record, which a ZIP64 field repeats.
        header: the place of its header, which such a field may repeat, too.
        by_torch: whether all of the archive is as torch writes it.
    """
    unknown = extra.keys() - (_TORCH_EXTRA if by_torch else _OTHER_EXTRA)
    if unknown:
        return f"an extra field of kind {min(unknown):#06x} is not known here"
    if by_torch and _PADDING_FIELD not in extra:
        return "it has no padding"
    if extra.get(_PADDING_FIELD, b"").strip(_PADDING):
        return "its padding is not what torch fills it with"
    wide = extra.get(ZIP64_FIELD)
    if wide:
        stated = {int.from_bytes(wide[place : place + 8], "little") for place in range(0, len(wide), 8)}
        if len(wide) % 8 or stated - {nbytes, header, 0}:
            return "its ZIP64 field states another size or place"
    return ""


def strange_end(made_by: int, needed: int, *, by_torch: bool) -> str:
    """Return what is wrong about the versions of the ZIP64 end record; empty if nothing is."""
    right = (made_by, needed) == _TORCH_END if by_torch else needed == _ZIP64_VERSION
    return "" if right else f"its ZIP64 end record is of version {made_by:#06x} and needs {needed}"
