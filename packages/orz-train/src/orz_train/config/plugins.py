"""The user's own code by name: `module:attr`."""

from __future__ import annotations

import difflib
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orz_train.errors import ConfigError


def is_plugin(name: str) -> bool:
    """Say whether a setting names user code rather than something built in."""
    return ":" in name


def resolve(name: str, *, key: str = "") -> Callable[..., Any]:
    """Import `module:attr` and return it; modules in the current folder are found too.

    Args:
        name: such as `my_pkg.rewards:reward`.
        key: the setting that names it, for messages.

    Raises:
        ConfigError: the name is malformed, the module or attribute is missing, the import failed, or what
            was found can't be called.
    """
    where = f"{key}: " if key else ""
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), *attribute.split(".")]):
        raise ConfigError(
            f"{where}got {name!r}, expected module:name", remedy="such as my_rewards:reward for my_rewards.py"
        )
    found: Any = _import(module_name, where)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{where}{module_name} has no {attribute!r}", remedy=_nearest(attribute, found))
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"{where}{name} is {type(found).__name__}, expected a function or a class")
    return found  # type: ignore[no-any-return]  # callable() can't name what a user's code returns


def _import(module_name: str, where: str) -> object:
    """Import a module of the user's; whatever it raises becomes a message with the user's line."""
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        # Last, so that a file called random.py here can't replace the standard library's.
        sys.path.append(folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise ConfigError(
                f"{where}there is no module {missing!r}",
                remedy=f"start orz in the folder that holds it (now {folder}), or install its package",
            ) from error
        raise ConfigError(
            f"{where}{_line_of(error)} needs the module {missing!r}, which is not installed",
            remedy=f"python -m pip install the package that brings {missing!r}",
        ) from error
    # The user's module may raise anything at all, even leave the interpreter.
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ConfigError(
            f"{where}importing {module_name} failed in {_line_of(error)}: {reason}",
            remedy=f"python -c 'import {module_name}' shows the whole traceback",
        ) from error


def _line_of(error: BaseException) -> str:
    """Return the innermost file and line of the user's own code, or of the syntax error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename not in {__file__, importlib.__file__}
    ]
    libraries = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
    own = [frame for frame in frames if not frame.filename.startswith(libraries)] or frames
    return f"{own[-1].filename}:{own[-1].lineno}" if own else "an import"


def _nearest(attribute: str, module: object) -> str:
    public = sorted(name for name in dir(module) if not name.startswith("_"))
    near = difflib.get_close_matches(attribute, public, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"it has: {', '.join(public[:12])}" if public else "it defines nothing"
