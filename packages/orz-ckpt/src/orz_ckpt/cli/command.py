"""A command of `orz ckpt`: what every one of them does with the errors of the machine that it runs on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from orz_ckpt.errors import OutOfMemoryError

if TYPE_CHECKING:
    from typer._click.core import Context


class CkptCommand(TyperCommand):
    """A command that says what it was reading, and what would need less, where memory is missing."""

    def invoke(self, ctx: Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MemoryError as error:
            raise _explained(error, self.name or "", ctx.params) from error


def _explained(error: MemoryError, command: str, given: dict[str, Any]) -> OutOfMemoryError:
    """Return the error with the options of the command that bound its memory, where it has some."""
    if isinstance(error, OutOfMemoryError):
        message, remedy = error.message, error.remedy
    else:
        paths = [path for value in given.values() for path in (value if isinstance(value, list) else [value])]
        about = " ".join(str(path) for path in paths if isinstance(path, Path)) or "its arguments"
        message = f"orz ckpt {command} {about}: there is not enough memory"
        remedy = "end other programs, raise the limit of memory, or run it on a machine with more"
    if "max_memory" in given:
        remedy = f"give --jobs 1 and less than --max-memory {given['max_memory']}; or {remedy}"
    return OutOfMemoryError(message, remedy=remedy)
