"""Names in a configuration that must lead somewhere before a run starts: user code and shipped files."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orz_train.config import plugins, shipped
from orz_train.config.problems import Problem, as_error
from orz_train.config.schema import Config
from orz_train.errors import ConfigError


def check_names(config: Config) -> None:
    """Import the user's code and look up shipped files; models and data elsewhere are the launch's to find.

    Raises:
        ConfigError: one of them is missing or broken; all are named.
    """
    problems = []
    for key, name, look_up in _names(config):
        try:
            look_up(name)
        except ConfigError as error:
            problems.append(Problem(None, key, str(error)))
    if problems:
        raise as_error(problems, subject=config.name)


def _names(config: Config) -> Iterator[tuple[str, str, Callable[[str], object]]]:
    """Yield key, name, and the function that looks the name up."""
    code = (
        ("algorithm.kind", config.algorithm.kind),
        ("reward.function", config.reward.function),
        ("data.source", config.data.source or ""),
    )
    for key, name in code:
        if plugins.is_plugin(name):
            yield key, name, plugins.resolve
    files = [
        ("policy.model", config.policy.model),
        ("critic.model", (config.critic.model if config.critic else None) or ""),
        ("reference.model", config.reference.model or ""),
        *(("data.train", name) for name in config.data.train),
        *((f"data.eval.{name}", path) for name, path in config.data.eval.items()),
    ]
    for key, path in files:
        yield key, path, shipped.resolve
