"""Entry points of one group, of all installed packages: `name = "module:attr"` in their metadata.

`importlib.metadata` finds the same. It brings a parser of mails with it, and parses the entry points of every package,
for whatever they are, which every command would wait for. So it is asked only where packages lie elsewhere than in
folders on the path.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, reduce
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    _Texts = tuple[str, Callable[[], str]]
    """Entry points of a package, and what returns the rest of its metadata."""

_SUFFIXES: Final = (".dist-info", ".egg-info")
"""Of folders that hold a package's metadata."""
_ENTRY_POINTS: Final = "entry_points.txt"
_ABOUT: Final = ("METADATA", "PKG-INFO")
"""The file there that names package and version; the second name is the older one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryPoint:
    """What a package names."""

    name: str
    value: str
    """`module:attr`."""
    package: str
    version: str
    """Of the package."""

    @property
    def module(self) -> str:
        """Name of the module."""
        return self.value.partition(":")[0].strip()

    def load(self) -> Any:
        """Import the module and return what is named.

        Raises:
            Exception: whatever the import raises.
        """
        attributes = self.value.partition(":")[2].partition("[")[0].strip()
        return reduce(getattr, filter(None, attributes.split(".")), import_module(self.module))


def declared(group: str) -> list[EntryPoint]:
    """Return the entry points of a group; of a package that is found twice, the first counts."""
    texts = _in_folders() if _all_in_folders() else _anywhere()
    packages: dict[str, list[EntryPoint]] = {}
    for text, about in texts:
        if f"[{group}]" in text:
            package, version = _name_and_version(about())
            points = [
                EntryPoint(name=name, value=value, package=package, version=version)
                for name, value in _section(text, group)
            ]
            packages.setdefault(package, points)
    return [point for points in packages.values() for point in points]


def _all_in_folders() -> bool:
    """Return whether packages lie in folders on the path alone: in no archive, and in no place of another finder."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    return finders == [PathFinder] and not any(map(_is_archive, sys.path))


def _is_archive(place: str) -> bool:
    with suppress(OSError):  # a place on the path that this user may not enter holds nothing for them
        return Path(place).is_file()
    return False


def _in_folders() -> Iterator[_Texts]:
    for place in sys.path:
        folders: list[Path] = []
        with suppress(OSError):
            folders = [entry for entry in Path(place).iterdir() if entry.suffix in _SUFFIXES]
        for folder in folders:
            yield _read(folder, _ENTRY_POINTS), partial(_about, partial(_read, folder))


def _anywhere() -> Iterator[_Texts]:
    from importlib import metadata  # noqa: PLC0415  for what few have

    for package in metadata.distributions():
        yield package.read_text(_ENTRY_POINTS) or "", partial(_about, package.read_text)


def _about(read: Callable[[str], str | None]) -> str:
    return next(filter(None, map(read, _ABOUT)), "")


def _read(folder: Path, name: str) -> str:
    with suppress(OSError):
        return (folder / name).read_text(encoding="utf-8")
    return ""


def _name_and_version(about: str) -> tuple[str, str]:
    """Return the fields of a package's metadata, which begins as a mail does."""
    head = about.partition("\n\n")[0]
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.splitlines())}
    return fields.get("name", ""), fields.get("version", "")


def _section(text: str, group: str) -> Iterator[tuple[str, str]]:
    """Yield name and value of each entry of a section; `#` begins a comment."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == group and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()
