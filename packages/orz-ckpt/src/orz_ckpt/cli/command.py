"""A command of `orz ckpt`: what every one of them does with mistyped values, and with the errors that end it."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand

from orz_ckpt.errors import OutOfMemoryError
from orz_ckpt.urls import is_url, redacted
from orz_cli.errors import OrzError, UsageError
from orz_cli.exits import ExitCode
from orz_cli.findings import Severity, Status
from orz_cli.garbage import few_collections
from orz_cli.process import end_at_once

if TYPE_CHECKING:
    from typer._click.core import Context

_NOT_ONE_OF: Final = re.compile(r"'(?P<got>.*)' is not one of (?P<known>'.*')\.?", re.DOTALL)
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
            end_at_once()
            with few_collections():  # a checkpoint's pickles are many small objects, and the command ends soon
                return super().invoke(ctx)
        except (MemoryError, OrzError, OSError) as error:
            subject = self._subject(ctx)
            explained = _explained(error, self.name or "", subject, ctx.params)
            if explained is None:
                raise
            _tell(explained, self.name or "", subject, ctx.params)
            if explained is error:
                raise
            raise explained from error

    def _subject(self, ctx: Context) -> str:
        """Return what the command was given to work on; of URLs what is no secret."""
        given = [ctx.params.get(param.name or "") for param in self.params if param.param_type_name == "argument"]
        several = [value if isinstance(value, (list, tuple)) else [value] for value in given]
        words = [str(word) for value in several for word in value if word]
        return " ".join(redacted(word) if is_url(word) else word for word in words)


def _mistyped(option: str, got: str, known: list[str]) -> UsageError:
    near = [_SHORT_NAMES[got]] if _SHORT_NAMES.get(got) in known else difflib.get_close_matches(got, known, n=1)
    remedy = f"did you mean {option} {near[0]}?" if near else f"give one of them: {option} {known[0]}"
    return UsageError(f"{option} {got}: expected {', '.join(known[:-1])} or {known[-1]}", remedy=remedy)


def _tell(error: OrzError, command: str, subject: str, given: dict[str, Any]) -> None:
    """Write an error that ends the command as a report, where a program reads it; people read it on stderr."""
    from orz_ckpt.cli.options import Format
    from orz_ckpt.cli.output import write_judged
    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.report.judged import Verdict
    from orz_cli.findings import to_json

    chosen = Format.JSON if given.get("as_json") else Format(given.get("output") or Format.TEXT)
    if chosen is Format.TEXT:
        return
    entry = CkptFinding(
        code="not_judged",
        severity=Severity.ERROR,
        message=error.message,
        remedy=error.remedy,
        path=subject,
        status=_STATUSES.get(error.exit_code, Status.INCONCLUSIVE),
    )
    write_judged(
        Verdict(command=command, path=subject, findings=[entry]),
        chosen,
        Severity.ERROR,
        document=lambda _: to_json(entry.status, [entry], path=subject),
        text=lambda _: None,
    )


def _explained(error: Exception, command: str, subject: str, given: dict[str, Any]) -> OrzError | None:
    """Return what to tell of an error that ends the command; None where that is for `orz` to say."""
    if isinstance(error, MemoryError):
        return _out_of_memory(error, command, subject, given)
    if isinstance(error, OrzError):
        return error
    from orz_ckpt.disk_errors import refused

    return refused(error) if isinstance(error, OSError) else None


def _out_of_memory(error: MemoryError, command: str, subject: str, given: dict[str, Any]) -> OutOfMemoryError:
    """Return the error with the options of the command that bound its memory, where it has some."""
    if isinstance(error, OutOfMemoryError):
        message, remedy = error.message, error.remedy
    else:
        message = f"orz ckpt {command} {subject or 'its arguments'}: there is not enough memory"
        remedy = "end other programs, raise the limit of memory, or run it on a machine with more"
    if "max_memory" in given:
        remedy = f"give --jobs 1 and less than --max-memory {given['max_memory']}; or {remedy}"
    return OutOfMemoryError(message, remedy=remedy)
