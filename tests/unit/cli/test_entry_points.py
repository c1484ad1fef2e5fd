"""Entry points are found as Python's own search finds them, wherever packages lie."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from orz_cli.entry_points import EntryPoint, declared

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

POINTS = """
# commands
[acme.others]
go = other:go

[acme.commands]
go = acme.cli : app
# not this one
stop=acme.cli:parts.stop [extra]
[acme.last]
"""


def make(info: Path, version: str = "1.0", about: str = "METADATA") -> None:
    info.mkdir(parents=True)
    (info / about).write_text(f"Metadata-Version: 2.1\nName: Acme-Tools\nVersion: {version}\n\nVersion: of the text\n")
    (info / "entry_points.txt").write_text(POINTS)


def seen(points: list[EntryPoint]) -> list[tuple[str, str, str, str]]:
    return [(point.name, point.value, point.package, point.version) for point in points]


@pytest.mark.parametrize("group", ["orz.commands", "console_scripts", "pytest11", "no.such.group"])
def test_pythons_own_search_finds_the_same(group: str) -> None:
    """Of all packages that are installed here."""
    expected = sorted(
        (point.name, point.module, point.dist.name, point.dist.version)
        for point in metadata.entry_points(group=group)
        if point.dist is not None
    )
    found = sorted((point.name, point.module, point.package, point.version) for point in declared(group))
    assert expected == found


@pytest.mark.parametrize(("folder", "about"), [("acme-1.0.dist-info", "METADATA"), ("acme.egg-info", "PKG-INFO")])
def test_a_section_is_read_up_to_the_next(
    folder: str, about: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without comments, and of metadata without the text below it."""
    make(tmp_path / folder, about=about)
    monkeypatch.syspath_prepend(tmp_path)
    package = ("Acme-Tools", "1.0")
    expected = [("go", "acme.cli : app", *package), ("stop", "acme.cli:parts.stop [extra]", *package)]
    assert expected == seen(declared("acme.commands"))


def test_the_first_of_a_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for an import: what lies behind it on the path is not used."""
    for place, version in (("first", "2.0"), ("second", "1.0")):
        make(tmp_path / place / f"acme-{version}.dist-info", version)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second"), *sys.path])
    assert ["2.0", "2.0"] == [point.version for point in declared("acme.commands")]


def test_packages_in_an_archive_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may name a zip file, which Python's own search looks into."""
    with ZipFile(tmp_path / "acme.zip", "w") as archive:
        archive.writestr("acme-1.0.dist-info/METADATA", "Name: acme\nVersion: 1.0\n")
        archive.writestr("acme-1.0.dist-info/entry_points.txt", POINTS)
    monkeypatch.syspath_prepend(str(tmp_path / "acme.zip"))
    assert [("acme", "1.0")] * 2 == [(point.package, point.version) for point in declared("acme.commands")]


def test_packages_of_another_finder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who puts packages elsewhere brings a finder for them, and Python's own search asks it."""
    make(tmp_path / "acme-1.0.dist-info")

    class Finder(metadata.DistributionFinder):
        """Finds a package that is in no folder of the path."""

        @staticmethod
        def find_spec(*_: object) -> None:
            """Find no module."""

        @staticmethod
        def find_distributions(*_: object) -> list[metadata.Distribution]:
            """Find one package."""
            return [metadata.Distribution.at(tmp_path / "acme-1.0.dist-info")]

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert ["go", "stop"] == [point.name for point in declared("acme.commands")]


def test_places_that_cannot_be_looked_at_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on the path that is missing, a file on the way to one, a name that is too long."""
    make(tmp_path / "acme-1.0.dist-info")
    (tmp_path / "file").write_text("text")
    (tmp_path / "sunk.dist-info").write_text("no folder")
    places = [str(tmp_path / name) for name in ("missing", "file/below", "long" * 100)]
    monkeypatch.setattr(sys, "path", [*places, str(tmp_path)])
    assert ["go", "stop"] == [point.name for point in declared("acme.commands")]


def test_what_is_named_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module, or something in it, however deep."""
    (tmp_path / "acme_named.py").write_text("class parts:\n    stop = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    deep = EntryPoint(name="stop", value="acme_named : parts.stop [extra]", package="acme", version="1.0")
    whole = EntryPoint(name="all", value="acme_named", package="acme", version="1.0")
    assert ("acme_named", 7) == (deep.module, deep.load())
    assert sys.modules["acme_named"] is whole.load()
