from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Annotated

import pytest
import typer

from orz_cli import main as main_module
from orz_cli.commands import Command
from orz_cli.errors import OrzError, UsageError
from orz_cli.exits import ExitCode
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit


class RefusedError(OrzError):
    exit_code = ExitCode.REFUSED


class EntryPointOf:
    """An entry point that yields a function of this file."""

    module = "acme.cli"

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def load(self) -> Callable[..., None]:
        return self.function


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes functions the only commands of `orz`."""

    def make(**functions: Callable[..., None]) -> None:
        commands = {
            name: Command(name=name, package="acme", version="1.2.0", entry_point=EntryPointOf(function))
            for name, function in functions.items()
        }
        monkeypatch.setattr(main_module, "discover", lambda: (commands, []))

    return make


def explode() -> None:
    message = "boom"
    raise ImportError(message)


def test_success_is_0(install, capsys):
    """A command that returns ends with 0, and its output is on stdout."""
    install(hello=lambda: typer.echo("hi"))
    assert ExitCode.OK == main(["hello"])
    assert ("hi\n", "") == capsys.readouterr()


def test_an_exit_code_is_passed_on(install):
    """A command that ends with a code of its own keeps it."""

    def judge() -> None:
        raise typer.Exit(ExitCode.INCONCLUSIVE)

    install(judge=judge)
    assert 3 == main(["judge"])


def test_an_orz_error_is_a_message_and_its_code(install, capsys):
    """A user's mistake gives message and remedy on stderr, the error's own code, and no traceback."""

    def refuse() -> None:
        message = "weights.bin calls os.system [really]"
        raise RefusedError(message, remedy="don't load it")

    install(refuse=refuse)
    assert ExitCode.REFUSED == main(["refuse"])
    assert ("", "error: weights.bin calls os.system [really]\n  -> don't load it\n") == capsys.readouterr()


def test_what_a_terminal_would_obey_is_escaped(install, capsys):
    """A file name with control characters in it is shown, not obeyed; lines stay lines, letters letters."""

    def refuse() -> None:
        message = "größe\x1b[2J\r\u202e is\nno file"
        raise RefusedError(message, remedy="mv 'a\x07b' c")

    install(refuse=refuse)
    main(["refuse"])
    assert "error: größe\\x1b[2J\\r\\u202e is\nno file\n  -> mv 'a\\x07b' c\n" == capsys.readouterr().err


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, typer.Abort])
def test_interruption_is_130(install, capsys, interruption):
    """Ctrl-C ends with 130 and one line."""

    def wait() -> None:
        raise interruption

    install(wait=wait)
    assert 130 == main(["wait"])
    assert "error: interrupted\n" == capsys.readouterr().err


def test_a_bug_shows_its_traceback_and_whom_to_tell(install, capsys):
    """An unexpected exception is 1, with the traceback, the package and its version."""
    install(crash=explode)
    assert ExitCode.FAILED == main(["crash"])
    stderr = capsys.readouterr().err
    assert "Traceback (most recent call last)" in stderr
    assert "ImportError: boom" in stderr
    assert "report it to the authors of acme 1.2.0" in stderr


def test_memory_that_is_not_there_is_3(install, capsys):
    """It is the machine's, and no bug: what Python or numpy says of it, what to do, and no traceback."""

    def fill() -> None:
        message = "Unable to allocate 9.00 GiB"
        raise MemoryError(message)

    install(fill=fill)
    assert ExitCode.INCONCLUSIVE == main(["fill"])
    assert (
        "error: there is not enough memory: Unable to allocate 9.00 GiB\n"
        "  -> end other programs, or run it on a machine with more\n"
    ) == capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message", "remedy"),
    [
        (["hello", "--nmae", "x"], "No such option: --nmae (Possible options: --name)", "orz hello --help"),
        (["hello", "--count", "many"], "--count: expected a whole number, got 'many'", "orz hello --help"),
        (["hello", "extra"], "Got unexpected extra argument", "orz hello --help"),
        (["--color"], "No such option: --color", "orz --help"),
        (["helo"], "orz has no command 'helo'", "did you mean `orz hello`? `orz --help` lists all commands"),
        (["completely-else"], "orz has no command 'completely-else'", "`orz --help` lists all commands"),
        (["ckpt"], "`orz ckpt` comes with orz-ckpt, which is not installed here", "python -m pip install orz-ckpt"),
        (["ckptt"], "orz has no command 'ckptt'", "did you mean `orz ckpt`? `orz --help` lists all commands"),
    ],
)
def test_wrong_usage_is_2(install, capsys, arguments, message, remedy):
    """A wrong option, value, argument or command: 2, what is wrong, and where to read on."""

    def hello(name: str = "you", count: int = 1) -> None:
        """Greet."""

    install(hello=hello)
    assert ExitCode.USAGE == main(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.endswith(f"\n  -> {remedy}\n")


def parse_folder(text: str) -> str:
    raise UsageError(f"{text} is a URL", remedy="give a folder")


def read(folder: Annotated[str, typer.Argument(parser=parse_folder)]) -> None:
    """Read a folder."""


def test_what_a_parser_refuses_is_said_as_it_says(install, capsys):
    """With its own next step, not as what typer puts in its place."""
    install(read=read)
    assert ExitCode.USAGE == main(["read", "s3://weights"])
    assert ("", "error: s3://weights is a URL\n  -> give a folder\n") == capsys.readouterr()


def test_only_the_command_asked_for_is_loaded(install):
    """A broken neighbour is not even imported."""

    class Untouchable(EntryPointOf):
        def load(self) -> Callable[..., None]:
            pytest.fail("loaded without need")

    commands, _ = (install(hello=lambda: None), main_module.discover())[1]
    commands["broken"] = Command(name="broken", package="b", version="1", entry_point=Untouchable(explode))
    assert ExitCode.OK == main(["hello"])
    assert ExitCode.OK == main(["--version"])
    assert ExitCode.USAGE == main(["--wrong"])


def test_help_lists_a_broken_command_with_its_reason(install, capsys):
    """`orz --help` ends with 0, names all commands, and warns on stderr about the one that cannot be loaded."""

    class Broken(EntryPointOf):
        def load(self) -> Callable[..., None]:
            return self.function()

    def hello() -> None:
        """Greet somebody."""

    install(hello=hello)
    commands, _ = main_module.discover()
    commands["broken"] = Command(name="broken", package="acme", version="2", entry_point=Broken(explode))
    assert ExitCode.OK == main(["--help"])
    out, err = capsys.readouterr()
    assert "hello   Greet somebody." in out
    assert "broken  Not available: boom" in out
    assert "Exit codes: 0 all is well" in out
    assert err.startswith("warning: `orz broken` is not available: acme 2 cannot be loaded: ImportError: boom\n")
    assert ExitCode.USAGE == main(["broken", "--any", "thing"])
    assert "error: `orz broken` is not available" in capsys.readouterr().err


def test_orz_alone_shows_help_and_is_2(install, capsys):
    """`orz` without a command does nothing, so it is wrong usage; the help says what is right."""
    install(hello=lambda: None)
    assert ExitCode.USAGE == main([])
    assert capsys.readouterr().err.startswith("Usage: orz [OPTIONS] COMMAND [ARGS]...")


def test_version_lists_all_packages(install, capsys, monkeypatch):
    """All four packages are listed, installed or not, and packages that bring commands of their own."""
    install(hello=lambda: None)
    versions = {"orz-cli": "0.1.0", "acme": "1.2.0"}
    monkeypatch.setattr(main_module, "installed_versions", lambda names: {name: versions.get(name) for name in names})
    assert ExitCode.OK == main(["--version"])
    expected = {
        "orz-cli": "0.1.0",
        "orz-ckpt": "not installed",
        "orz-monitor": "not installed",
        "orz-train": "not installed",
        "acme": "1.2.0",
    }
    assert expected == dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())


def test_a_lost_claim_is_a_warning(install, capsys, monkeypatch):
    """Two packages with one command: the user is told, and the command runs."""
    install(hello=lambda: None)
    commands, _ = main_module.discover()
    monkeypatch.setattr(main_module, "discover", lambda: (commands, ["b also brings `orz hello`"]))
    assert ExitCode.OK == main(["hello"])
    assert "warning: b also brings `orz hello`\n" == capsys.readouterr().err


def test_errors_survive_a_process_boundary():
    """An OrzError raised in a worker arrives with its type, message and remedy."""
    error = pickle.loads(pickle.dumps(UsageError("no such key", remedy="did you mean lr?")))  # noqa: S301
    assert (UsageError, "no such key", "did you mean lr?") == (type(error), error.message, error.remedy)
    assert "no such key\n  -> did you mean lr?" == str(error)
