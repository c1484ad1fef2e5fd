"""How each trainer prints: one dialect a file, or a folder where one file would hold several ideas.

`KNOWN` lists them by name, without importing them: reading starts in milliseconds. A line is offered to them in this
order until one says that it is its own.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from orz_cli.errors import OrzError
from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.guarded import DialectError, guarded
from orz_monitor.errors import UnreadableRunError
from orz_monitor.printable import one_line

__all__ = ["KNOWN", "Dialect", "Meaning", "dialects_beside", "find_dialect", "known_dialects", "with_fallback"]

ENTRY_POINTS: Final = "orz.monitor.dialects"
_LOG: Final = logging.getLogger(__name__)
KNOWN: Final = {
    "orz": "orz_monitor.dialects.orz:Orz",
    "verl": "orz_monitor.dialects.verl:Verl",
    "openrlhf": "orz_monitor.dialects.openrlhf:OpenRlhf",
    "nemo-rl": "orz_monitor.dialects.nemo_rl:NemoRl",
    "skyrl": "orz_monitor.dialects.skyrl:SkyRl",
    "slime": "orz_monitor.dialects.slime:Slime",
    "prime-rl": "orz_monitor.dialects.prime_rl:PrimeRl",
    "areal": "orz_monitor.dialects.areal:Areal",
    "roll": "orz_monitor.dialects.roll:Roll",
    "ms-swift": "orz_monitor.dialects.ms_swift:MsSwift",
    "trl": "orz_monitor.dialects.trl:Trl",
    "sb3": "orz_monitor.dialects.stable_baselines:StableBaselines",
    "deepspeed": "orz_monitor.dialects.deepspeed:DeepSpeed",
    "engines": "orz_monitor.dialects.engines:Engines",
    "crashes": "orz_monitor.dialects.crashes:Crashes",
}
"""Name to `module:class`."""

GENERIC: Final = "orz_monitor.dialects.generic:Generic"
"""The fallback, for logs in which none of them finds a number."""
ORZ_TRAIN: Final = "orz_monitor.dialects.orz_train:OrzTrain"
"""Our own console log, told by its first line."""
_OUR_NAMES: Final = (*KNOWN, "generic", "orz-train")


def known_dialects() -> list[type[Dialect]]:
    """Return all dialects: those that installed packages name as `orz.monitor.dialects`, then ours.

    A package whose dialect can't be imported, can't read, or has the name of another one, is warned of, and left out.
    """
    return [*_of_packages().values(), *(find_dialect(place) for place in KNOWN.values())]


def dialects_beside(place: str) -> list[type[Dialect]]:
    """Return a dialect of a user's, which is asked first, and all known ones.

    One that a package names, too, and one of ours, is taken once.

    Args:
        place: the `module:class` that `--dialect` was given.

    Raises:
        UnreadableRunError: it is no dialect, or can't be imported.
        DialectError: it can't read, or has the name of another one.
    """
    where = f"--dialect {place}"
    kind = find_dialect(place, where)
    packages = {owner: other for owner, other in _of_packages().items() if other.__base__ is not kind}
    ours = [find_dialect(known) for known in KNOWN.values()]
    is_ours = kind in {*ours, find_dialect(GENERIC), find_dialect(ORZ_TRAIN)}
    first = kind if is_ours else _of_user(kind, where, packages)
    return [first, *packages.values(), *(other for other in ours if other is not kind)]


def with_fallback(kinds: Sequence[type[Dialect]]) -> list[type[Dialect]]:
    """Return the dialects to try on a log in which no trainer's finds a number, in order.

    The fallback takes whatever has a name and a number: the lines of engines and of faults are offered to theirs first.
    Trainers' come last, since none of them understood the log.
    """
    others = [kind for kind in kinds if not kind.is_trainer]
    return [*others, find_dialect(GENERIC), *(kind for kind in kinds if kind.is_trainer)]


@lru_cache(maxsize=1)
def _of_packages() -> Mapping[str, type[Dialect]]:
    """Import the dialects of installed packages, by who names them; one that several name is taken once."""
    from importlib import metadata  # noqa: PLC0415 - slow to import, and a second process needs none of it

    found: dict[str, type[Dialect]] = {}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        where = f"the dialect {entry.name} of {entry.dist.name if entry.dist is not None else 'an installed package'}"
        try:
            kind = find_dialect(entry.value, where)
            if kind not in [other.__base__ for other in found.values()]:
                found[where] = _of_user(kind, where, found)
        except OrzError as error:
            _LOG.warning("%s; it is left out", error.message)
    return MappingProxyType(found)


def _of_user(kind: type[Dialect], where: str, others: Mapping[str, type[Dialect]]) -> type[Dialect]:
    """Return a dialect of a user's, guarded, whose name no other one has: entries are told apart by it.

    Args:
        kind: the dialect.
        where: who named it.
        others: those of other users, by who named them.

    Raises:
        DialectError: it can't read, or its name is taken.
    """
    guard = guarded(kind, where)
    owners = {**dict.fromkeys(_OUR_NAMES, "orz's own dialect"), **{other.name: who for who, other in others.items()}}
    if owner := owners.get(guard.name):
        raise DialectError(f"{where}: the name {one_line(guard.name)} is taken by {owner}; choose another")
    return guard


def find_dialect(place: str, where: str = "") -> type[Dialect]:
    """Import a dialect by its `module:class`.

    Args:
        place: the module and the class.
        where: who named it, for messages; the option by default.

    Raises:
        UnreadableRunError: there is no such module or class, the module can't be imported, or it is no dialect.
    """
    module, _, attribute = place.partition(":")
    where = where or f"--dialect {place}"
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnreadableRunError(
            f"{where}: {error}", remedy="give a class that can be imported, as my_package.my_module:MyDialect"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what an import of somebody's module raises is anybody's guess; a script exits
        raise UnreadableRunError(
            f"{where}: {type(error).__name__}: {one_line(str(error))}", remedy="check that the module imports alone"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Dialect)):
        raise UnreadableRunError(
            f"{where}: {found!r} is no subclass of orz_monitor.dialects.Dialect",
            remedy="subclass it; orz_monitor.dialects.base has an example",
        )
    return found
