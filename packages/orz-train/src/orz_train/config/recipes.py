"""The recipes and overlays that come with orz-train, and how a name or path finds one."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from orz_train.config.suggest import nearest_name
from orz_train.config.yamlfile import read_tree
from orz_train.errors import ConfigError

SUFFIXES = {".yaml", ".yml"}
_FOLDERS = {"recipe": "", "overlay": "overlays", "base": "bases"}


class ShippedRecipe(NamedTuple):
    """A line of `orz train --list`."""

    name: str
    description: str


def list_recipes() -> list[ShippedRecipe]:
    """Return the recipes that come with orz-train, quickstarts first, then by name."""
    names = sorted(_names("recipe"), key=lambda name: (not name.startswith("quickstart"), name))
    return [ShippedRecipe(name, str(read_tree(_file("recipe", name)).data.get("description", ""))) for name in names]


def list_overlays() -> list[str]:
    """Return the names that `--with` knows."""
    return _names("overlay")


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: a path, or the name of a shipped one.

    Raises:
        ConfigError: there is none; the nearest names and all names are told.
    """
    return _find(name, "recipe", Path.cwd())


def find_overlay(name: str) -> Path:
    """Return the file of an overlay: a path, or the name of a shipped one.

    Raises:
        ConfigError: there is none.
    """
    return _find(name, "overlay", Path.cwd())


def find_base(name: str, file: Path) -> Path:
    """Return what `extends: NAME` in a file means: a shipped recipe or base, or a path relative to the file.

    Raises:
        ConfigError: there is none.
    """
    if not _is_path(name) and name in _names("base"):
        return _file("base", name)
    return _find(name, "recipe", file.parent)


def _find(name: str, kind: Literal["recipe", "overlay"], folder: Path) -> Path:
    if _is_path(name):
        path = folder / os.path.expanduser(name)  # noqa: PTH111  Path's raises where there is no such user
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "there is no such file"
            raise ConfigError(f"{kind} {name}: {what}", remedy=_choices(kind))
        return path
    if name in _names(kind):
        return _file(kind, name)
    here = f"; the file {name}.yaml here is {kind} ./{name}.yaml" if (folder / f"{name}.yaml").is_file() else ""
    raise ConfigError(f"there is no {kind} {name!r}{nearest_name(name, _names(kind))}{here}", remedy=_choices(kind))


def _choices(kind: str) -> str:
    return f"give a YAML file or one of: {', '.join(_names(kind))}"


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or Path(name).suffix in SUFFIXES


def _names(kind: str) -> list[str]:
    return sorted(file.stem for file in _folder(kind).glob("*.yaml"))


def _file(kind: str, name: str) -> Path:
    return _folder(kind) / f"{name}.yaml"


def _folder(kind: str) -> Path:
    return Path(str(resources.files("orz_train"))) / "recipes" / _FOLDERS[kind]
