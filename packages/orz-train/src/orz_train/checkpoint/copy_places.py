"""Where in a store a run's copies are: a folder of the run folder's name, laid out as the run folder is."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from orz_ckpt.inventory import CHECKPOINTS_DIR, step_folder
from orz_ckpt.urls import is_url, local_path, redacted
from orz_train.errors import ConfigError, UsageError

_NO_PART_OF_A_NAME = "?#%"
"""What means something else in a URL; of stores' libraries some decode it, and some don't."""


def copies_url(copy_to: str, run_dir: Path) -> str:
    """Return where the copies of a run are.

    Args:
        copy_to: `checkpoint.copy_to`.
        run_dir: the run folder, absolute.

    Raises:
        ConfigError: `copy_to` is no URL of a place, or the name of the run folder can't be part of it.
    """
    place, name = copy_to.rstrip("/"), run_dir.name
    if place.lower().startswith("file://"):
        name = quote(name, safe="")
    elif wrong := [character for character in _NO_PART_OF_A_NAME if character in name]:
        raise ConfigError(
            f"checkpoint.copy_to: the run folder {run_dir} has {wrong[0]!r} in its name, which in a URL means something"
            " else",
            remedy="give another --run-dir, or rename the folder",
        )
    url = f"{place}/{name}"
    if not is_url(url):  # `s3://` alone would become the relative path `s3:/run`
        raise ConfigError(f"checkpoint.copy_to: {redacted(copy_to)} names no place", remedy="give s3://bucket/runs")
    return url


def copy_url(copy_to: str, run_dir: Path, step: int) -> str:
    """Return where the copy of a step is.

    Raises:
        ConfigError: as `copies_url`.
    """
    return f"{copies_url(copy_to, run_dir)}/{CHECKPOINTS_DIR}/{step_folder(run_dir, step).name}"


def copies_apart(copy_to: str, run_dir: Path) -> str:
    """Return where the copies of a run are, which is neither the run folder, nor inside of it or around it.

    Raises:
        ConfigError: it is; or as `copies_url`.
    """
    url = copies_url(copy_to, run_dir)
    try:
        path = local_path(url)
    except UsageError as error:
        raise ConfigError(f"checkpoint.copy_to: {error.message}", remedy=error.remedy) from error
    if path is None:
        return url
    copies, run = path.resolve(), run_dir.resolve()
    if copies.is_relative_to(run) or run.is_relative_to(copies):
        where = "the run folder itself" if copies == run else f"not apart from the run folder {run}"
        raise ConfigError(
            f"checkpoint.copy_to: copies would go to {copies}, which is {where}",
            remedy="give a folder on another disk",
        )
    return url
