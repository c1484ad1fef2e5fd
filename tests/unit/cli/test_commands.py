from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pytest
import typer

from orz_cli import commands
from orz_cli.commands import CommandError, discover
from orz_cli.entry_points import EntryPoint
from orz_cli.exits import EXIT_CODES_HELP, ExitCode

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

TWO_OPTIONS = """
import typer
from typing import Annotated
def app(x: Annotated[int, typer.Option(), typer.Option()]): ...
"""


def declare(name: str, value: str, package: str = "acme") -> EntryPoint:
    """Return the entry point of a package that is installed nowhere."""
    return EntryPoint(name=name, value=value, package=package, version="1.2.0")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that puts a module with this source on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)

    return make


def test_discovery_imports_nothing():
    """A command is known by its package's metadata, before its module is imported."""
    found, warnings = discover([declare("shiny", "no_such_module_anywhere:app")])
    assert {"shiny": ("acme", "1.2.0")} == {name: (c.package, c.version) for name, c in found.items()}
    assert warnings == []


def test_commands_are_sorted():
    """The list is in alphabetical order, whatever order the packages were installed in."""
    found, _ = discover([declare("b", "m:f"), declare("c", "m:f"), declare("a", "m:f")])
    assert ["a", "b", "c"] == list(found)


def test_a_function_becomes_a_command(module):
    """A plain function is a command, its docstring the help."""
    module("plug_function", "def go():\n    'Go there.'\n")
    command = discover([declare("go", "plug_function:go")])[0]["go"].load(None)
    assert ("go", "Go there.") == (command.name, command.help)


def test_an_app_with_one_command_keeps_its_level(module):
    """`orz shiny polish` stays two words when polish is the only command of the app."""
    module("plug_app", "import typer\napp = typer.Typer()\n@app.command()\ndef polish():\n    'Polish.'\n")
    group = discover([declare("shiny", "plug_app:app")])[0]["shiny"].load(None)
    assert ["polish"] == list(group.commands)


@pytest.mark.parametrize(
    ("asked", "chain", "expected"),
    [
        ("look-up", False, ["look-up"]),
        ("named", False, ["named"]),
        ("", False, ["look-up", "named"]),
        ("--help", False, ["look-up", "named"]),
        ("look_up", False, ["look-up", "named"]),
        ("named", True, ["look-up", "named"]),
    ],
)
def test_only_the_command_that_is_asked_for_is_made(module, asked: str, chain: bool, expected: list[str]):
    """The others cost time; a word that is none of them, or an app that takes several at once, gets them all."""
    source = f"""
import typer
app = typer.Typer(chain={chain})
@app.command()
def look_up(): 'Look.'
@app.command('named')
def other(): 'Other.'
"""
    module("plug_many", source)
    command = discover([declare("many", "plug_many:app")])[0]["many"]
    assert expected == list(command.load(None, asked).commands)
    assert ["look-up", "named"] == list(command.load(None).commands), "the app itself stays as it is"


def test_exit_codes_close_every_help(module):
    """An app, its commands, and the commands below these end with the exit codes, unless they have an epilog."""
    source = """
import typer
app, inner = typer.Typer(), typer.Typer()
@app.command()
def plain(): 'Plain.'
@inner.command(epilog='Mine.')
def own(): 'Own.'
app.add_typer(inner, name='inner')
"""
    module("plug_nested", source)
    group = discover([declare("n", "plug_nested:app")])[0]["n"].load(None)
    inner = group.commands["inner"]
    expected = (EXIT_CODES_HELP, EXIT_CODES_HELP, EXIT_CODES_HELP, "Mine.")
    assert expected == (
        group.epilog,
        group.commands["plain"].epilog,
        inner.epilog,
        inner.commands["own"].epilog,
    )


def test_an_argument_with_a_name_is_listed_under_that_alone(module):
    """`KEY=VALUE`, not `KEY=VALUE <str>`; one without a name of its own keeps its type."""
    source = """
from typing import Annotated
import typer
def paint(settings: Annotated[list[str], typer.Argument(metavar='KEY=VALUE')], count: int): 'Paint.'
"""
    module("plug_arguments", source)
    command = discover([declare("paint", "plug_arguments:paint")])[0]["paint"].load(None)
    shown = [parameter.type.get_metavar(param=parameter, ctx=None) for parameter in command.params[:2]]
    assert ["", None] == shown


@pytest.mark.parametrize(
    ("parameters", "usage"),
    [
        ("paths: Annotated[list[str], typer.Argument(metavar='PATH')]", "{PATH}..."),
        ("paths: Annotated[list[str] | None, typer.Argument(metavar='PATH')] = None", "[PATH]..."),
        ("paths: Annotated[list[str] | None, typer.Argument(metavar='[PATH]')] = None", "[PATH]..."),
        ("paths: Annotated[list[str], typer.Argument(metavar='A B...')]", "{A B...}"),
        ("paths: Annotated[list[str], typer.Argument()]", "{paths}..."),
        ("path: Annotated[str, typer.Argument(metavar='PATH')]", "{PATH}"),
        ("path: Annotated[str, typer.Argument(metavar='PATH')] = ''", "[PATH]"),
    ],
)
def test_the_usage_line_says_which_arguments_may_be_repeated(module, parameters: str, usage: str):
    """Required or not, with three dots once; the metavar itself, which the list of arguments shows, has none."""
    module("plug_lists", f"from typing import Annotated\nimport typer\ndef paint({parameters}): 'Paint.'\n")
    command = discover([declare("paint", "plug_lists:paint")])[0]["paint"].load(None)
    argument = command.params[0]
    help_text = command.get_help(typer.Context(command, info_name="paint"))
    assert f"Usage: paint [OPTIONS] {usage}" == help_text.partition("\n")[0]
    listed = help_text.partition("Arguments:\n")[2].splitlines()[0]
    assert (argument.metavar or "paths...") == listed.strip().partition("  ")[0]


def test_exit_codes_help_names_each_code():
    """A code that is added to the enumeration has to be explained to users."""
    explained = {int(part.split()[0]) for part in EXIT_CODES_HELP.removeprefix("Exit codes: ").split("; ")}
    assert set(map(int, ExitCode)) == explained


@pytest.mark.parametrize(
    ("source", "value", "reason"),
    [
        ("import nothing_like_it", "plug_bad:app", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("app = ", "plug_bad:app", "SyntaxError: invalid syntax"),
        ("raise SystemExit(0)", "plug_bad:app", "SystemExit: 0"),
        ("raise RuntimeError", "plug_bad:app", "RuntimeError"),
        ("app = 3", "plug_bad:app", "TypeError: expected a function or a typer.Typer, got int"),
        ("", "plug_bad:app", "AttributeError: module 'plug_bad' has no attribute 'app'"),
        (TWO_OPTIONS, "plug_bad:app", "MultipleTyperAnnotationsError"),
    ],
)
def test_whatever_breaks_in_a_plug_in_is_one_error(module, source, value, reason):
    """A module that cannot be imported, leaves the interpreter or holds no command: a CommandError that says so."""
    module("plug_bad", source)
    command = discover([declare("bad", value)])[0]["bad"]
    with pytest.raises(CommandError) as caught:
        command.load(None)
    assert f"`orz bad` is not available: acme 1.2.0 cannot be loaded: {reason}" in caught.value.message
    assert ExitCode.USAGE == caught.value.exit_code


def test_the_remedy_tells_a_missing_dependency_from_a_broken_package(module):
    """A missing dependency is installed; a package that lacks a file of its own is installed again."""
    module("plug_needs", "import nothing_like_it")
    needs = discover([declare("n", "plug_needs:app")])[0]["n"]
    lost = discover([declare("l", "plug_lost.cli:app")])[0]["l"]
    remedies = []
    for command in (needs, lost):
        with pytest.raises(CommandError) as caught:
            command.load(None)
        remedies.append(caught.value.remedy)
    expected = [
        "install what it needs: python -m pip install acme==1.2.0",
        "repair it: python -m pip install --force-reinstall --no-deps acme==1.2.0",
    ]
    assert expected == remedies


def test_a_stranger_cannot_take_our_command():
    """`orz train` belongs to orz-train, also where another package claims it and comes first in the alphabet."""
    claims = [declare("train", "x:f"), declare("train", "orz_train.cli:train", package="orz-train")]
    for order in (claims, claims[::-1]):
        found, warnings = discover(order)
        assert "orz-train" == found["train"].package
        assert ["acme 1.2.0 also brings `orz train`; the one of orz-train is used"] == warnings


def test_installed_packages_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same as Python's own search finds; of a package that lies on the path twice, the first counts."""
    for place, version in (("first", "2.0"), ("second", "1.0")):
        info = tmp_path / place / f"acme-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[console_scripts]\nacme = m:f\n[orz.commands]\nacme = m:f\n")
        monkeypatch.syspath_prepend(tmp_path / place)
    monkeypatch.setattr("sys.path", [str(tmp_path / "first"), *sys.path])
    found, warnings = discover()
    assert {point.name for point in entry_points(group=commands.ENTRY_POINT_GROUP)} == set(found)
    assert ("acme", "2.0") == (found["acme"].package, found["acme"].version)
    assert [] == warnings


def test_two_strangers_with_one_name():
    """The first package in alphabetical order wins, and the warning names both."""
    found, warnings = discover([declare("x", "m:f", package="zeta"), declare("x", "m:f", package="alpha")])
    assert "alpha" == found["x"].package
    assert ["zeta 1.2.0 also brings `orz x`; the one of alpha is used"] == warnings


def test_help_in_a_pipe_has_no_boxes(module):
    """Without markup a typer app renders plain help, its nested apps too."""
    module("plug_plain", "import typer\napp = typer.Typer(rich_markup_mode='rich')\n@app.command()\ndef f(): 'F.'\n")
    group: Any = discover([declare("p", "plug_plain:app")])[0]["p"].load(None)
    help_text = group.get_help(typer.Context(group, info_name="p"))
    assert help_text.startswith("Usage: p [OPTIONS] COMMAND [ARGS]...")
    assert "╭" not in help_text
