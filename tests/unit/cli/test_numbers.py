"""What an option for a number says of something else."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import typer

from orz_cli import main as main_module
from orz_cli.commands import Command
from orz_cli.entry_points import EntryPoint
from orz_cli.exits import ExitCode
from orz_cli.main import main
from orz_cli.numbers import finite, refused_number

pytestmark = pytest.mark.unit


def measure(
    sizes: Annotated[list[int] | None, typer.Argument(metavar="SIZE")] = None,
    *,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64)] = 1,
    keep: Annotated[list[int] | None, typer.Option(min=0)] = None,
    least: Annotated[int, typer.Option(max=9)] = 0,
    alpha: Annotated[float | None, typer.Option(min=0.5, callback=finite)] = None,
    shift: Annotated[float, typer.Option(callback=finite)] = 0.0,
    plain: float = 0.0,
    size: Annotated[int | None, typer.Option(metavar="BYTES")] = None,
) -> None:
    """Say what arrived."""
    assert size is None
    typer.echo(f"{sizes} {jobs} {keep} {least} {alpha} {shift} {plain}")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `measure` the only command of `orz`."""
    point = EntryPoint(name="measure", value=f"{__name__}:measure", package="acme", version="1")
    monkeypatch.setattr(EntryPoint, "load", lambda _: measure)
    command = Command(name="measure", package="acme", version="1", entry_point=point)
    monkeypatch.setattr(main_module, "discover", lambda: ({"measure": command}, []))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jobs", "x"], "--jobs/-j: expected a whole number from 1 to 64, got 'x'"),
        (["--jobs", "0"], "--jobs/-j: expected a whole number from 1 to 64, got 0"),
        (["-j", "65"], "--jobs/-j: expected a whole number from 1 to 64, got 65"),
        (["--jobs", "1.5"], "--jobs/-j: expected a whole number from 1 to 64, got '1.5'"),
        (["--jobs", ""], "--jobs/-j: expected a whole number from 1 to 64, got ''"),
        (["--jobs", "3 is not in the range 4."], "got '3 is not in the range 4.'"),
        (["--keep", "1", "--keep", "-1"], "--keep: expected a whole number of at least 0, got -1"),
        (["--least", "10"], "--least: expected a whole number of at most 9, got 10"),
        (["3", "many"], "SIZE: expected a whole number, got 'many'"),
        (["--plain", "abc"], "--plain: expected a finite number, got 'abc'"),
        (["--alpha", "abc"], "--alpha: expected a finite number of at least 0.5, got 'abc'"),
        (["--alpha", "0.25"], "--alpha: expected a finite number of at least 0.5, got 0.25"),
        (["--alpha", "nan"], "--alpha: expected a finite number of at least 0.5, got nan"),
        (["--alpha", "inf"], "--alpha: expected a finite number of at least 0.5, got inf"),
        (["--alpha", "1e400"], "--alpha: expected a finite number of at least 0.5, got inf"),
        (["--alpha", "-inf"], "--alpha: expected a finite number of at least 0.5, got -inf"),
        (["--shift", "nan"], "--shift: expected a finite number, got nan"),
        (["--shift", "-inf"], "--shift: expected a finite number, got -inf"),
    ],
)
def test_what_was_expected_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A text, a fraction, a number beyond the limits, NaN and what is too large: 2, and where to read on."""
    assert ExitCode.USAGE == main(["measure", *arguments])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith(f"{said}\n  -> orz measure --help\n")


def test_numbers_within_the_limits_arrive(capsys: pytest.CaptureFixture[str]) -> None:
    """The limits belong to them, and what is not given stays so."""
    assert ExitCode.OK == main(["measure", "7", "--jobs", "64", "--keep", "0", "--alpha", "0.5", "--shift", "-1e300"])
    assert "[7] 64 [0] 0 0.5 -1e+300 0.0\n" == capsys.readouterr().out
    assert ExitCode.OK == main(["measure", "--least", "9"])
    assert "9 None 0.0 0.0\n" == capsys.readouterr().out[-len("9 None 0.0 0.0\n") :]


def test_what_is_no_number_is_not_explained_as_one() -> None:
    """A parameter of another type, an unknown message, and a message without a parameter are left to typer."""
    command: Any = typer.main.get_command(app_of(measure))
    jobs = next(one for one in command.params if one.name == "jobs")
    shell = typer.core.TyperOption(param_decls=["--shell"], type=str)
    assert refused_number(jobs, "'x' is not a valid int range.", "orz measure") is not None
    assert refused_number(jobs, "it is too late.", "orz measure") is None
    assert refused_number(shell, "'x' is not a valid int.", "orz measure") is None
    assert refused_number(None, "'x' is not a valid int.", "orz measure") is None


def app_of(function: Any) -> typer.Typer:
    app = typer.Typer()
    app.command()(function)
    return app


def test_help_shows_a_letter_for_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    """N for a whole one and NUMBER for another, with limits or without; a name of its own stays."""
    assert ExitCode.OK == main(["measure", "--help"])
    lines = [line.split("  ")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  -")]
    assert ["-j, --jobs N", "--keep N", "--least N", "--alpha NUMBER", "--shift NUMBER", "--plain NUMBER"] == lines[:6]
    assert lines[6] == "--size BYTES"
