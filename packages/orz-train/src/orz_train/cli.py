"""`orz train` and `orz plan`. Nothing heavy is imported before a command needs it."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orz_cli.numbers import finite
from orz_train.errors import UsageError
from orz_train.signals import ENDING

if TYPE_CHECKING:
    from orz_train.config.load import Loaded

DEFAULT_RECIPE = "quickstart"
RUNS = Path("runs")
"""Where run folders are made unless `--run-dir` says otherwise."""
_TO_SAVE = "a run saves to disks: give a folder, and the URL as checkpoint.copy_to, for copies of its checkpoints"
_TO_RESUME = "bring the checkpoint here: orz ckpt copy URL RUN/checkpoints/step_NNNNNN, beside RUN/config.yaml"
_LARGEST_GPU_GB = 1_000_000
"""A petabyte, which no GPU has; its bytes are a whole number that JSON can hold."""

Recipe = Annotated[
    str | None,
    typer.Argument(metavar="RECIPE", help="The name of a shipped recipe, or a YAML file; quickstart by default."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that win over the recipe's: policy.optimizer.lr=1e-6"),
]
Overlays = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="OVERLAY", help="Lay `debug` or a YAML file over the recipe; may be repeated."),
]
RunDir = Annotated[
    str | None,
    typer.Option("--run-dir", metavar="DIR", help="The run folder; ./runs/RECIPE-TIME-ID by default."),
]


def train(
    recipe: Recipe = None,
    overrides: Overrides = None,
    *,
    with_: Overlays = None,
    run_dir: RunDir = None,
    resume: Annotated[
        str,
        typer.Option(
            metavar="auto|never|PATH",
            help="Go on where --run-dir left off, never, or from a run folder or checkpoint, whose settings are"
            " taken where no RECIPE is given. With another --run-dir, PATH branches off into a new run.",
        ),
    ] = "auto",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check and print the settings, and the plan; read no model or data, start nothing.",
        ),
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped recipes and overlays.")] = False,
) -> None:
    """Train a policy. Without arguments this runs the quickstart."""
    if list_:
        _list_recipes()
        return
    folder = _run_folder(run_dir)
    _refuse_url(resume, "--resume", _TO_RESUME)
    loaded = _load(recipe, overrides, with_, default=_recipe_of(resume))
    if dry_run:
        _dry_run(loaded, folder)
        return
    from orz_train.launch import run

    _end_as_by_ctrl_c()
    code = run(loaded.config, run_dir=folder, resume=resume)
    if code:
        raise typer.Exit(int(code))


def plan(
    recipe: Recipe = None,
    overrides: Overrides = None,
    *,
    with_: Overlays = None,
    run_dir: RunDir = None,
    gpu_memory: Annotated[
        float,
        typer.Option(
            "--gpu-memory",
            metavar="GB",
            min=1,
            max=_LARGEST_GPU_GB,
            callback=finite,
            help="Memory of one GPU, in GB.",
        ),
    ] = 80.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, with the formulas of all estimates.")] = False,
) -> None:
    """Explain a run before it starts.

    Its parameters in words, with ORZ's names beside ours; batches, memory, disk. Needs no GPU, model or data.
    """
    from orz_train.plan.summary import make_plan, plan_json
    from orz_train.plan.text import show, write_plan

    folder = _run_folder(run_dir)
    loaded = _load(recipe, overrides, with_)
    made = make_plan(
        loaded.config,
        run_dir=(folder or RUNS).absolute(),
        device_bytes=round(gpu_memory * 1e9),
        follows_orz=loaded.follows_orz,
    )
    if json_:
        typer.echo(json.dumps(plan_json(made), indent=2, ensure_ascii=False))
    else:
        show(made, write_plan)


def _run_folder(text: str | None) -> Path | None:
    """Return the run folder that was asked for, None where none was.

    Raises:
        UsageError: it is empty, or a URL, which as a path would be a folder `s3:` in the current one.
        RunFolderError: it is, or lies behind, a link to nothing.
    """
    if text is None:
        return None
    from orz_train.runlog.folder import refuse_link_to_nothing

    _refuse_url(text, "--run-dir", _TO_SAVE)
    refuse_link_to_nothing(Path(os.path.abspath(text)))  # noqa: PTH100  as RunFolder: links stay, .. goes
    return Path(text)


def _refuse_url(text: str, option: str, remedy: str) -> None:
    """Refuse what is no path of this machine.

    Raises:
        UsageError: it is empty or a URL; no secret in that is shown.
    """
    from orz_ckpt.urls import is_url, redacted

    if not text:
        raise UsageError(f"{option} is empty", remedy="give a path; . is the current folder")
    if is_url(text):
        raise UsageError(f"{option} {redacted(text)} is a URL, expected a folder of this machine", remedy=remedy)


def _end_as_by_ctrl_c() -> None:
    """Let a scheduler's signal and a closed terminal end a run as Ctrl-C does; what `nohup` ignores stays ignored."""
    for number in ENDING:
        if number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _load(
    recipe: str | None, overrides: list[str] | None, overlays: list[str] | None, *, default: str = DEFAULT_RECIPE
) -> Loaded:
    """Load the configuration; a first argument that is KEY=VALUE belongs to the default recipe."""
    from orz_train.config.load import load

    arguments = list(overrides or [])
    if recipe is not None and "=" in recipe and not os.path.lexists(recipe):
        arguments.insert(0, recipe)
        recipe = None
    return load(recipe or default, arguments, overlays or ())


def _recipe_of(resume: str) -> str:
    """Return the settings of the run that is resumed, a recipe in its own right; else the default."""
    if resume in {"auto", "never"}:
        return DEFAULT_RECIPE
    from orz_train.checkpoint import resume_point

    return str(resume_point(Path(resume)).run_dir / "config.yaml")


def _dry_run(loaded: Loaded, run_dir: Path | None) -> None:
    """Write the settings to stdout, a recipe in its own right, and the plan's summary to stderr."""
    from orz_train.backends.needs import check_backend
    from orz_train.config.dump import dump
    from orz_train.config.preflight import check_names
    from orz_train.plan.summary import make_plan
    from orz_train.plan.text import show, write_summary
    from orz_train.rewards.registry import load_reward

    if run_dir is not None and run_dir.exists() and not run_dir.is_dir():
        raise UsageError(f"--run-dir {run_dir} is a file, expected a folder")
    check_names(loaded.config)
    load_reward(loaded.config.reward.function)
    check_backend(loaded.config)
    made = make_plan(loaded.config, run_dir=(run_dir or RUNS).absolute(), follows_orz=loaded.follows_orz)
    sources = "\n".join(f"#   {source}" for source in loaded.sources)
    typer.echo(f"# Made from, lowest precedence first:\n{sources}\n{dump(loaded.config)}", nl=False)
    show(made, write_summary, stderr=True)


def _list_recipes() -> None:
    from orz_train.config.recipes import list_overlays, list_recipes

    recipes = list_recipes()
    width = max(len(recipe.name) for recipe in recipes)
    for recipe in recipes:
        typer.echo(f"{recipe.name:<{width}}  {recipe.description}")
    typer.echo(f"\noverlays, for --with: {', '.join(list_overlays())}")
