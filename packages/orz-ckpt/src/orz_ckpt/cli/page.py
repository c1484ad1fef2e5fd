"""The reference page of all commands, `docs/reference/cli-ckpt.md`, made from the commands themselves."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import typer

from orz_ckpt.cli import app
from orz_cli.exits import ExitCode
from orz_cli.numbers import placeholder

if TYPE_CHECKING:
    from collections.abc import Iterator

_INTRODUCTION: Final = """\
# Commands of orz ckpt

<!-- Made from orz_ckpt.cli by orz_ckpt.cli.page; edit the commands, not this page. -->

What each command can be told. `orz ckpt COMMAND --help` says the same. What their findings mean is in
[findings](findings-ckpt.md); how the same is done from Python, in [the API](python-ckpt.md); a story through several
of them, in [my weights are missing](../how-to/my-weights-are-missing.md).
"""
_EXITS: Final = {
    ExitCode.OK: "all is well",
    ExitCode.FAILED: "an error was found, or with `--fail-on warn` a warning; or what was asked could not be done",
    ExitCode.USAGE: "wrong usage; nothing was started",
    ExitCode.INCONCLUSIVE: "could not decide, such as when a node gives no answer: never a pass",
    ExitCode.REFUSED: "refused as hostile: a pickle that calls, a path that leads out",
    ExitCode.INTERRUPTED: "interrupted by the user",
}


def commands_page() -> str:
    """Return the page as Markdown."""
    lines = [_INTRODUCTION, "| exit code | it means |", "|---|---|"]
    lines += [f"| {int(code)} | {text} |" for code, text in _EXITS.items()]
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        lines += ["", *_command(name, command)]
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    required = [_spelled(one) for one in options if one.required]
    words = ["orz", "ckpt", name, *(_usage(one) for one in arguments), *required, "[OPTIONS]"]
    yield f"## {name}"
    yield ""
    yield f"`{' '.join(words)}`"
    yield ""
    yield from command.help.splitlines()
    yield ""
    if arguments:
        yield "| argument | meaning |"
        yield "|---|---|"
        yield from (f"| `{one.metavar}` | {_cell(one.help)} |" for one in arguments)
        yield ""
    yield "| option | default | meaning |"
    yield "|---|---|---|"
    yield from (f"| `{_spelled(one)}` | {_default(one)} | {_cell(one.help)} |" for one in options)


def _usage(argument: Any) -> str:
    """Return an argument as it stands in a command line."""
    text = str(argument.metavar)
    return f"{text}..." if argument.nargs < 0 else text


def _spelled(option: Any) -> str:
    """Return an option with what it takes."""
    takes = "" if option.is_flag else f" {option.metavar or _kind(option)}"
    return f"{', '.join(option.opts)}{takes}"


def _kind(option: Any) -> str:
    """Return the values of an option that has a few, or what they are otherwise."""
    choices = getattr(option.type, "choices", ())
    return " or ".join(choices) or placeholder(option.type) or "VALUE"


def _default(option: Any) -> str:
    if option.is_flag or option.show_default is False or option.default in {None, ""}:
        return "required" if option.required else ""
    value = option.default.value if isinstance(option.default, Enum) else option.default
    return f"`{value}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")
