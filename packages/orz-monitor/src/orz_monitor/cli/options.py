"""Options that commands share: those that say how runs are read and judged."""

# ruff: noqa: PLC0415  commands import what they need, so that `orz --help` loads no numpy
from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from orz_cli.errors import UsageError

if TYPE_CHECKING:
    from orz_monitor.dialects import Dialect
    from orz_monitor.engine import Verdict
    from orz_monitor.run import Run

PresetOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="KIND",
        help="The kind of run: ppo, kl-free, rlhf-kl, grpo, dapo or async; by default it is recognised.",
    ),
]
ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Thresholds; by default .orz-monitor.toml beside the run, or here."),
]
RuleOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--rule", metavar="MODULE:ATTR", help="A rule of your own; may be repeated.")
]
DialectOption: TypeAlias = Annotated[
    str, typer.Option("--dialect", metavar="MODULE:CLASS", help="A dialect of your own, which is asked first.")
]


def dialects_with(place: str) -> list[type[Dialect]] | None:
    """Return the dialects to read with: the user's, which may lie in the working directory, then all known ones.

    Args:
        place: `module:class`; empty for none, which is told as None.

    Raises:
        UsageError: there is no such class, it is no dialect or a wrong one, its module can't be imported, or its name
            is that of another dialect.
    """
    if not place:
        return None
    from orz_monitor.dialects import dialects_beside
    from orz_monitor.errors import UnreadableRunError

    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return dialects_beside(place)
    except UnreadableRunError as error:
        raise UsageError(error.message, remedy=error.remedy) from error
    finally:
        sys.path.remove(here)


def judge_of(
    path: Path, *, preset: str = "", config: Path | None = None, users: Iterable[str] = ()
) -> Callable[[Run], Verdict]:
    """Return what judges a run that is read from `path` again and again.

    It is made when it is first called, since the libraries that judge take longer to load than a first picture may;
    a UsageError for an option or a configuration that means nothing is raised then.
    """

    @cache
    def judge() -> Callable[[Run, Path], Verdict]:
        from orz_monitor.judge import Judge

        return Judge.of(preset=preset, config=config, users=users)

    return lambda run: judge()(run, path)
