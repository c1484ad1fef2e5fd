"""A command of `orz ckpt`: what every one of them does with mistyped values, and with the errors that end it."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand

from orz_ckpt.errors import OutOfMemoryError
from orz_cli.errors import OrzError, UsageError
from orz_cli.exits import ExitCode
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from typer._click.core import Context

_NOT_ONE_OF: Final = re.compile(r"(?:Value error, )?'(?P<got>.*)' is not one of (?P<known>'.*')\.?", re.DOTALL)
_SHORT_NAMES: Final = {"bf16": "bfloat16", "fp16": "float16", "f16": "float16", "half": "float16", "fp32": "float32"}
"""What people call types, and what `--dtype` calls them."""
_STATUSES: Final = {ExitCode.FAILED: Status.FAILED, ExitCode.REFUSED: Status.REFUSED}


class CkptCommand(TyperCommand):
    """A command that proposes the value that was meant, and whose errors are told in the format that was asked for."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the command line; where a value is none of those that an option has, say which is near."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            match = _NOT_ONE_OF.fullmatch(error.message)
            if match is None:
                raise
            option = "/".join(error.param.opts) if error.param is not None else "a value"
            raise _mistyped(option, match["got"], re.findall("'([^']*)'", match["known"])) from error

    def invoke(self, ctx: Context) -> Any:
        """Run the command; where memory is missing or the system refuses a file, say which, and what to do."""
        try:
            return super().invoke(ctx)
        except MemoryError as error:
            explained = _explained(error, self.name or "", ctx.params)
            _tell(explained, self.name or "", ctx.params)
            raise explained from error
        except OrzError as error:
            _tell(error, self.name or "", ctx.params)
            raise
        except OSError as error:
            from orz_ckpt.cli.disk_errors import refused

            found = refused(error)
            if found is None:
                raise
            _tell(found, self.name or "", ctx.params)
            raise found from error


def _mistyped(option: str, got: str, known: list[str]) -> UsageError:
    near = [_SHORT_NAMES[got]] if _SHORT_NAMES.get(got) in known else difflib.get_close_matches(got, known, n=1)
    remedy = f"did you mean {option} {near[0]}?" if near else f"give one of them: {option} {known[0]}"
    return UsageError(f"{option} {got}: expected {', '.join(known[:-1])} or {known[-1]}", remedy=remedy)


def _tell(error: OrzError, command: str, given: dict[str, Any]) -> None:
    """Write an error that ends the command as a report, where a program reads it; people read it on stderr."""
    from orz_ckpt.cli.options import Format
    from orz_ckpt.cli.output import write_judged
    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.report.judged import Verdict
    from orz_cli.findings import to_json

    chosen = Format.JSON if given.get("as_json") else Format(given.get("output") or Format.TEXT)
    if chosen is Format.TEXT:
        return
    path = _paths(given)
    entry = CkptFinding(
        code="not_judged",
        severity=Severity.ERROR,
        message=error.message,
        remedy=error.remedy,
        path=path,
        status=_STATUSES.get(error.exit_code, Status.INCONCLUSIVE),
    )
    write_judged(
        Verdict(command=command, path=path, findings=[entry]),
        chosen,
        Severity.ERROR,
        document=lambda _: to_json(entry.status, [entry], path=path),
        text=lambda _: None,
    )


def _paths(given: dict[str, Any]) -> str:
    """Return what the command was given to judge; of URLs nothing, for they may hold secrets."""
    values = [entry for value in given.values() for entry in (value if isinstance(value, list) else [value])]
    return " ".join(str(entry) for entry in values if isinstance(entry, Path))


def _explained(error: MemoryError, command: str, given: dict[str, Any]) -> OutOfMemoryError:
    """Return the error with the options of the command that bound its memory, where it has some."""
    if isinstance(error, OutOfMemoryError):
        message, remedy = error.message, error.remedy
    else:
        message = f"orz ckpt {command} {_paths(given) or 'its arguments'}: there is not enough memory"
        remedy = "end other programs, raise the limit of memory, or run it on a machine with more"
    if "max_memory" in given:
        remedy = f"give --jobs 1 and less than --max-memory {given['max_memory']}; or {remedy}"
    return OutOfMemoryError(message, remedy=remedy)
