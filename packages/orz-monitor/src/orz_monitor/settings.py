"""The settings of a run, from the `config.yaml` of its folder: as much of YAML as the trainer writes there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

CONFIG_FILE: Final = "config.yaml"
MOST_BYTES: Final = 1 << 20
"""Of a larger file only the beginning is read; no configuration is that long."""
_LINE: Final = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_][\w.-]*):(?: +(?P<value>.*))?")


def settings_of(folder: Path | None) -> Mapping[str, str]:
    """Return the settings of a run folder, dotted name to the value's text; none where there is no readable file.

    Mappings of scalars are read, as block style writes them. Lists and multi-line texts are left out: no rule needs
    them, and a file by another hand must do no harm.
    """
    path = folder / CONFIG_FILE if folder is not None else None
    if path is None or not path.is_file():
        return {}
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _read(path: Path, _changed: int) -> Mapping[str, str]:
    """Read a file, once as long as it does not change."""
    with path.open("rb") as file:
        return parse(file.read(MOST_BYTES).decode("utf-8", errors="replace"))


def parse(text: str) -> dict[str, str]:
    r"""Return the scalars of nested block mappings.

    Example:
        >>> parse("kl:\n  loss_coef: 0.0\nsteps: 2\n")
        {'kl.loss_coef': '0.0', 'steps': '2'}
    """
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            continue
        indent, value = len(match["indent"]), (match["value"] or "").strip()
        while parents and parents[-1][0] >= indent:
            parents.pop()
        name = ".".join([*(key for _, key in parents), match["key"]])
        if value:
            found[name] = value.strip("'\"")
        else:
            parents.append((indent, match["key"]))
    return found
