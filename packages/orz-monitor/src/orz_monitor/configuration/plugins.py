"""Rules of users: by entry point, or named as `module:attr`."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeVar

from orz_monitor.configuration.model import ConfigurationError
from orz_monitor.findings import Finding, Sighting
from orz_monitor.rules.base import Rule
from orz_monitor.run import Run

GROUP: Final = "orz.monitor.rules"
"""Entry points of this group are rules, or functions that serve as rules."""
T = TypeVar("T")
Seen = Finding | Sighting
"""What a rule returns for an episode."""
_CODE: Final = re.compile(r"[a-z][a-z0-9_]*")
_EXPECTED: Final = "expected `def check(run: Run) -> Finding | list[Finding] | None`, or a Rule"


def users_rules(named: Iterable[str], ours: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules of installed packages and those named on the command line.

    Args:
        named: `module:attr` each.
        ours: rules whose codes are taken.

    Raises:
        ConfigurationError: one can't be imported, has the wrong signature, or a code that is taken.
    """
    found = [(f"entry point {point.name}", _load_point(point)) for point in metadata.entry_points(group=GROUP)]
    found += [(f"--rule {path}", load(path)) for path in named]
    taken = {rule.code: "orz monitor" for rule in ours}
    for where, rule in found:
        if rule.code in taken:
            raise ConfigurationError(
                f"{where}: the code {rule.code!r} is taken by {taken[rule.code]}", remedy="give the rule another name"
            )
        taken[rule.code] = where
    return tuple(rule for _, rule in found)


def load(path: str) -> Rule:
    """Import a rule named as `module:attr`, from the working directory too.

    Raises:
        ConfigurationError: it can't be imported, or is no rule.
    """
    where = f"--rule {path}"
    module, colon, attribute = path.partition(":")
    if not (module and colon and attribute):
        raise ConfigurationError(f"{where}: expected module:attr", remedy="such as --rule my_rules:too_long")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        value = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # what an import of a user's module raises is anybody's guess
        raise ConfigurationError(
            f"{where}: {type(error).__name__}: {error}", remedy="check the names, and that the module imports alone"
        ) from error
    finally:
        sys.path.remove(here)
    return as_rule(value, where)


def as_rule(value: object, where: str) -> Rule:
    """Turn a rule, or a function of a run, into a rule; check what can be checked before it runs.

    Raises:
        ConfigurationError: it is neither, or takes other arguments.
    """
    if isinstance(value, Rule):
        if not is_dataclass(value.limits) or isinstance(value.limits, type):
            got = f"{where}: its limits are {str(value.limits)[:80]!r}"
            raise ConfigurationError(f"{got}, expected a dataclass of numbers", remedy="leave `limits` out for none")
        return replace(
            value,
            check=_checked(value.code, value.check, where),
            lacks=_said(value.lacks, where),
            hinders=_said(value.hinders, where),
        )
    if not inspect.isfunction(value):
        raise ConfigurationError(f"{where}: got {type(value).__name__}, {_EXPECTED}", remedy="name a function")
    if inspect.iscoroutinefunction(value) or inspect.isgeneratorfunction(value):
        raise ConfigurationError(f"{where}: got a coroutine or generator, {_EXPECTED}", remedy="return a list")
    required = [
        parameter
        for parameter in inspect.signature(value).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]
    if len(required) != 1 or required[0].kind is inspect.Parameter.KEYWORD_ONLY:
        got = f"def {value.__name__}{inspect.signature(value)}"
        raise ConfigurationError(f"{where}: got {got}, {_EXPECTED}", remedy="let it take the run and nothing else")
    if not _CODE.fullmatch(value.__name__):
        raise ConfigurationError(
            f"{where}: {value.__name__!r} is no code for a rule",
            remedy="use lower-case letters, digits and underscores",
        )
    title = (inspect.getdoc(value) or value.__name__.replace("_", " ")).splitlines()[0].rstrip(".")
    return Rule(code=value.__name__, title=title, check=_checked(value.__name__, lambda run, _: value(run), where))


def _load_point(point: metadata.EntryPoint) -> Rule:
    """Load the rule of an installed package."""
    where = f"entry point {point.name} = {point.value}"
    try:
        value = point.load()
    except Exception as error:  # as above
        raise ConfigurationError(
            f"{where}: {type(error).__name__}: {error}", remedy=f"repair or uninstall {point.dist and point.dist.name}"
        ) from error
    return as_rule(value, where)


def _checked(code: str, function: Callable[[Run, Any], object], where: str) -> Callable[[Run, Any], list[Seen]]:
    """Wrap what a user's rule does so that whatever it raises or returns is told as its fault.

    Args:
        code: that of the rule, which its findings have to carry.
        function: takes a run and the thresholds.
        where: who named it, for messages.
    """

    def check(run: Run, limits: Any) -> list[Seen]:
        result: Any = _called(lambda: function(run, limits), run, where)
        found = [result] if isinstance(result, Seen) else [] if result is None else result
        if not isinstance(found, list | tuple) or not all(isinstance(item, Seen) for item in found):
            raise ConfigurationError(f"{where}: returned {str(result)[:80]!r}, {_EXPECTED}", remedy="correct the rule")
        other = {item.code for item in found if isinstance(item, Finding)} - {code}
        if other:
            raise ConfigurationError(
                f"{where}: a finding has the code {min(other)!r}", remedy=f"give it the code {code!r}"
            )
        return [item if isinstance(item, Finding) else _told(item, run) for item in found]

    def _told(sighting: Sighting, run: Run) -> Sighting:
        describe = sighting.describe
        return replace(sighting, describe=lambda severity: _called(lambda: describe(severity), run, where))

    return check


def _said(function: Callable[[Run], str], where: str) -> Callable[[Run], str]:
    """Wrap what says why a user's rule can't judge a run, as `_checked` wraps what judges."""

    def say(run: Run) -> str:
        reason: object = _called(lambda: function(run), run, where)
        if not isinstance(reason, str):
            got = f"{where}: said {str(reason)[:80]!r} of why it can't judge {run.name}"
            raise ConfigurationError(f"{got}, expected a text", remedy="return an empty text where it can")
        return reason

    return say


def _called(call: Callable[[], T], run: Run, where: str) -> T:
    """Return what a user's code returns; what it raises is told as its fault."""
    try:
        return call()
    except Exception as error:  # a user's rule raises what it likes
        raise ConfigurationError(
            f"{where}: raised {type(error).__name__} on {run.name}: {error}",
            remedy="correct the rule, or leave it out",
        ) from error
