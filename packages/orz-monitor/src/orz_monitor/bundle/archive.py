"""The archive of a bundle: a zip or tar file that says itself what is in it."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from orz_cli.errors import UsageError
from orz_monitor import __version__
from orz_monitor.bundle.contents import Item
from orz_monitor.printable import printable
from orz_monitor.publishing import is_standard_output, publish

_TAR_ENDINGS: Final = (".tar.gz", ".tgz")
ENDINGS: Final = (".zip", *_TAR_ENDINGS)
_BEFORE: Final = "orz-bundle"
"""The folder in the archive."""
_TIME: Final = (2000, 1, 1, 0, 0, 0)
"""When every file of an archive was made, so that equal contents are equal bytes."""


def write_bundle(output: Path, items: Sequence[Item], counts: Mapping[str, int], left_out: Sequence[str]) -> None:
    """Write the archive, a zip file on standard output, with a README.txt that lists what is in it and what is not.

    Raises:
        UsageError: the name's ending is not known, or the file can't be written.
    """
    if not output.name.endswith(ENDINGS) and not is_standard_output(output):
        raise UsageError(
            f"{output}: a bundle is written as {', '.join(ENDINGS)}", remedy="give --output a name that ends so"
        )
    files = {"README.txt": listing(items, counts, left_out)} | {item.name: item.text for item in items}
    encoded = {f"{_BEFORE}/{name}": text.encode("utf-8", errors="replace") for name, text in files.items()}
    write = _write_tar if output.name.endswith(_TAR_ENDINGS) else _write_zip
    publish(output, lambda path: write(path, encoded))


def listing(items: Sequence[Item], counts: Mapping[str, int], left_out: Sequence[str]) -> str:
    """Say what is in a bundle, what was redacted and what was left out."""
    lines = [f"Made by orz monitor bundle {__version__}. Look through it before you send it.", "", "Files:"]
    for item in items:
        size = len(item.text.encode("utf-8", errors="replace"))
        lines.append(f"  {printable(item.name)}: {size} bytes" + (f" ({item.note})" if item.note else ""))
    lines += ["", "Redacted, by what it looked like:" if counts else "Nothing looked like a secret."]
    lines += [f"  {count} x {kind}" for kind, count in sorted(counts.items())]
    if left_out:
        lines += ["", "Left out:", *(f"  {printable(line)}" for line in left_out)]
    return "\n".join(lines) + "\n"


def _write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a zip file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, date_time=_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            archive.writestr(info, data)


def _write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a compressed tar file."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o600
            archive.addfile(info, io.BytesIO(data))
