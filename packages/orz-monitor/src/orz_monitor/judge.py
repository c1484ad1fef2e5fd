"""How a command judges: the rules and settings that its options name. Commands that judge share it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orz_monitor.configuration import NOTHING_SET, Configuration, find, load
from orz_monitor.configuration.plugins import users_rules
from orz_monitor.dialects import Dialect
from orz_monitor.engine import Verdict, judge
from orz_monitor.loading import load_run
from orz_monitor.presets import preset as known_preset
from orz_monitor.rules import RULES, Rule, envelope, regression
from orz_monitor.run import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """Judges runs with the same rules and, for each, the configuration that goes with it.

    Attributes:
        rules: every rule that may apply.
        preset: the kind of run that the user named; empty where it is to be recognised.
        configuration: the file that the user named; None where the one beside a run is to be used.
    """

    rules: tuple[Rule, ...]
    preset: str = ""
    configuration: Configuration | None = None

    @classmethod
    def of(
        cls,
        *,
        preset: str = "",
        config: Path | None = None,
        baseline: Path | None = None,
        envelope: str = "",
        users: Iterable[str] = (),
        dialects: Sequence[type[Dialect]] | None = None,
    ) -> Judge:
        """Make a judge of a command's options.

        Args:
            preset: a kind of run, or empty.
            config: a configuration file.
            baseline: a run that others must not fall behind.
            envelope: a published course, or empty.
            users: rules of the user's, `module:attr` each.
            dialects: the dialects to read the baseline with; all known ones by default.

        Raises:
            UsageError: a name or file means nothing.
            UnreadableRunError: the baseline can't be read.
        """
        if preset:
            known_preset(preset)
        course = load_run(baseline, dialects=dialects) if baseline is not None else None
        rules = _rules(course, envelope, users)
        return cls(rules=rules, preset=preset, configuration=load(config, _all(rules)) if config is not None else None)

    def __call__(self, run: Run, path: Path) -> Verdict:
        """Judge a run that was read from a path."""
        configuration = self.configuration
        if configuration is None:
            beside = find(path)
            configuration = load(beside, _all(self.rules)) if beside is not None else NOTHING_SET
        if self.preset:
            configuration = replace(configuration, preset=self.preset)
        return judge(run, self.rules, configuration)


def _rules(baseline: Run | None, course: str, users: Iterable[str]) -> tuple[Rule, ...]:
    """Return every rule: ours, those that options ask for, and the user's."""
    asked = []
    if baseline is not None:
        asked.append(regression.rule(baseline))
    if course:
        asked.append(envelope.rule(course))
    return (*RULES, *asked, *users_rules(users, _all(RULES)))


def _all(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Add the rules that only options bring: a configuration may name them whether or not they are asked for."""
    known = {rule.code: rule for rule in rules}
    optional = (
        Rule(code=regression.CODE, title="", check=lambda *_: [], limits=regression.Limits()),
        Rule(code=envelope.CODE, title="", check=lambda *_: [], limits=envelope.Limits()),
    )
    return (*known.values(), *(rule for rule in optional if rule.code not in known))
