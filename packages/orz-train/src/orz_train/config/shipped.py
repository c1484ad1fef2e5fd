"""Files that come with orz-train: `shipped:NAME` in a configuration."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from orz_train.errors import ConfigError

PREFIX = "shipped:"


def resolve(path: str) -> Path:
    """Return the path of a file or folder; `shipped:NAME` is one that comes with orz-train.

    A plain path passes through as it is, whether something is there or not.

    Raises:
        ConfigError: nothing of that name comes with orz-train.
    """
    if not path.startswith(PREFIX):
        return Path(path)
    name = path.removeprefix(PREFIX)
    root = assets_folder()
    names = shipped_names()
    if name.strip("/") not in names:
        listed = ", ".join(f"{PREFIX}{known}" for known in names)
        raise ConfigError(f"{path}: no such file comes with orz-train", remedy=f"these do: {listed or 'none'}")
    return root / name


def model_path(name: str) -> str:
    """Resolve a shipped model to its folder; leave paths and hub names exactly as they are.

    Raises:
        ConfigError: no model of that name comes with orz-train.
    """
    return str(resolve(name)) if is_shipped(name) else name


def is_shipped(path: str) -> bool:
    """Say whether a path names a file that comes with orz-train."""
    return path.startswith(PREFIX)


def shipped_names() -> list[str]:
    """Return what can follow `shipped:`: data files, and folders that hold a model; sorted."""
    root = assets_folder()
    if not root.is_dir():
        return []
    models = {config.parent for config in root.rglob("config.json")}
    files = {
        file
        for file in root.rglob("*")
        if file.is_file()
        and file.suffix not in {".py", ".pyc", ".md"}
        and not any(model in file.parents for model in models)
    }
    return sorted(path.relative_to(root).as_posix() for path in models | files)


def assets_folder() -> Path:
    """Return the folder of shipped files."""
    return Path(str(resources.files("orz_train"))) / "assets"
