"""The configuration file, `.orz-monitor.toml`: found, read and checked."""

from __future__ import annotations

import datetime as dt
import difflib
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from orz_cli.findings import Severity
from orz_monitor.configuration.model import Configuration, ConfigurationError, Ignore, Override
from orz_monitor.configuration.order import misordered
from orz_monitor.configuration.values import number, parse_persistence, parse_severity
from orz_monitor.errors import remedy_of, unreadable_words
from orz_monitor.presets import PRESETS
from orz_monitor.rules.base import Rule

NAME: Final = ".orz-monitor.toml"
MOST_BYTES: Final = 1 << 20
LARGEST: Final = 1e9
"""Threshold; no metric comes near it."""
MOST_STEPS: Final = 100_000
"""Threshold that is a number of steps: windows take memory."""
_TOP: Final = ("preset", "rules", "ignore")
_COMMON: Final = ("severity", "min_points")
_IGNORE: Final = ("rule", "reason", "until", "first_step", "last_step")


def find(run: Path) -> Path | None:
    """Return the configuration beside a run, else that of the working directory, else None."""
    beside = run if run.is_dir() else run.parent
    return next((path for folder in (beside, Path()) if (path := folder / NAME).is_file()), None)


def load(path: Path, rules: Sequence[Rule]) -> Configuration:
    """Read and check a configuration.

    Args:
        path: the file.
        rules: those that it may name.

    Raises:
        ConfigurationError: it can't be read, is no TOML, or has names or values that mean nothing; all are told.
    """
    reader = _Reader(path, rules)
    configuration = reader.configuration(_table(path))
    if reader.problems:
        listed = "\n".join(f"  {problem}" for problem in reader.problems)
        raise ConfigurationError(f"{path}:\n{listed}", remedy="docs/reference/rules.md lists rules and thresholds")
    return configuration


def _table(path: Path) -> dict[str, Any]:
    """Read a file as TOML."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ConfigurationError(f"{path}: larger than 1 MiB", remedy="give a configuration of orz monitor")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise ConfigurationError(unreadable_words(path, error), remedy=remedy_of(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: no TOML: {error}", remedy="correct that line") from error


class _Reader:
    """Checks a table and gathers what is wrong with it."""

    def __init__(self, path: Path, rules: Sequence[Rule]) -> None:
        self.path = path
        self.rules = {rule.code: rule for rule in rules}
        self.preset = ""
        self.problems: list[str] = []

    def configuration(self, table: Mapping[str, Any]) -> Configuration:
        """Return what the table says."""
        self._known("", table, _TOP)
        preset = table.get("preset", "")
        if preset != "" and not (isinstance(preset, str) and preset in PRESETS):
            self._wrong("preset", preset, f"one of {', '.join(PRESETS)}", PRESETS)
            preset = ""
        self.preset = preset
        return Configuration(
            path=self.path,
            preset=preset,
            overrides=self._overrides(table.get("rules", {})),
            ignores=self._ignores(table.get("ignore", [])),
        )

    def _overrides(self, table: object) -> dict[str, Override]:
        """Return what is set for each rule."""
        if not isinstance(table, dict):
            self._wrong("rules", table, "a table, such as [rules.entropy_low]")
            return {}
        self._known("rules.", table, self.rules)
        return {code: self._override(code, table[code]) for code in table if code in self.rules}

    def _override(self, code: str, table: object) -> Override:
        """Return what is set for one rule."""
        where = f"rules.{code}"
        if not isinstance(table, dict):
            self._wrong(where, table, f"a table, such as [rules.{code}]")
            return Override()
        thresholds = self.rules[code].thresholds
        paced = ("persistence",) if {"hits", "window"} <= set(thresholds) else ()
        self._known(f"{where}.", table, (*thresholds, *_COMMON, *paced))
        limits: dict[str, float] = {}
        for name in thresholds:
            if name in table:
                whole = isinstance(thresholds[name][0], int)
                value = number(table[name], whole=whole)
                if value is None or value < whole or value > (MOST_STEPS if whole else LARGEST):
                    self._wrong(
                        f"{where}.{name}", table[name], "a whole number from 1 on" if whole else "a number from 0 on"
                    )
                else:
                    limits[name] = value
        if paced and "persistence" in table:
            pace = parse_persistence(table["persistence"])
            if pace is None:
                self._wrong(f"{where}.persistence", table["persistence"], 'hits in a window of steps, such as "5/8"')
            else:
                limits["hits"], limits["window"] = pace
        usual = {name: value for name, (value, _) in thresholds.items()} | self._limits_of_preset(code)
        for name, value, expected in misordered(self.rules[code], limits, usual):
            self._wrong(f"{where}.{name}", f"{value:.12g}", expected)
        worst, off = None, False
        if "severity" in table:
            worst, off = parse_severity(table["severity"])
            if worst is None and not off:
                self._wrong(f"{where}.severity", table["severity"], "error, warn, info or off", (*Severity, "off"))
        return Override(limits=limits, min_points=self._min_points(where, table), worst=worst, off=off)

    def _limits_of_preset(self, code: str) -> dict[str, float]:
        """Return what the preset that the file names sets for a rule."""
        return dict(PRESETS[self.preset].limits.get(code, {})) if self.preset else {}

    def _min_points(self, where: str, table: Mapping[str, Any]) -> int | None:
        """Return how many values a rule is to wait for."""
        if "min_points" not in table:
            return None
        value = number(table["min_points"], whole=True)
        if value is None or value < 1:
            self._wrong(f"{where}.min_points", table["min_points"], "a whole number from 1 on")
            return None
        return int(value)

    def _ignores(self, entries: object) -> tuple[Ignore, ...]:
        """Return the findings that do not count."""
        if not isinstance(entries, list):
            self._wrong("ignore", entries, 'a list, such as [{rule = "kl_spike", reason = "known"}]')
            return ()
        found = (self._ignore(f"ignore[{index}]", entry) for index, entry in enumerate(entries))
        return tuple(item for item in found if item is not None)

    def _ignore(self, where: str, entry: object) -> Ignore | None:
        """Return one entry."""
        if not isinstance(entry, dict):
            self._wrong(where, entry, "a table")
            return None
        before = len(self.problems)
        self._known(f"{where}.", entry, _IGNORE)
        rule, reason = entry.get("rule"), entry.get("reason")
        if not isinstance(rule, str) or rule not in self.rules:
            self._wrong(f"{where}.rule", rule, "the name of a rule", self.rules)
        if not isinstance(reason, str) or not reason.strip():
            self._wrong(f"{where}.reason", reason, "a few words, for whoever reads the report")
        steps = {key: entry[key] for key in ("first_step", "last_step") if key in entry}
        for key, step in steps.items():
            if number(step, whole=True) is None:
                self._wrong(f"{where}.{key}", step, "a step")
        until = self._day(f"{where}.until", entry.get("until"))
        if len(self.problems) > before:
            return None
        return Ignore(rule=str(rule), reason=str(reason), until=until, **steps)

    def _day(self, where: str, value: object) -> dt.date | None:
        """Read a day: a TOML date, or a text of one."""
        if isinstance(value, dt.datetime):
            return value.date()
        if value is None or isinstance(value, dt.date):
            return value
        try:
            if isinstance(value, str):
                return dt.date.fromisoformat(value)
        except ValueError:
            pass
        self._wrong(where, value, "a day, such as 2026-12-01")
        return None

    def _known(self, where: str, table: Mapping[str, Any], names: Collection[str]) -> None:
        """Refuse names that mean nothing, with the nearest that do."""
        for name in table:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
                self.problems.append(f"{where}{name}: no such {'rule' if where == 'rules.' else 'setting'}; {hint}")

    def _wrong(self, where: str, got: object, expected: str, names: Collection[str] = ()) -> None:
        """Note a value that means nothing."""
        near = difflib.get_close_matches(str(got), [str(name) for name in names], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.problems.append(f"{where}: got {str(got)[:80]!r}, expected {expected}{hint}")
