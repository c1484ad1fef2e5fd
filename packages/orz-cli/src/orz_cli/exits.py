"""The exit codes of every orz command."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means, the same for all of them."""

    OK = 0
    """All is well."""
    FAILED = 1
    """The thing checked or run has failed: findings, or a failed run."""
    USAGE = 2
    """Wrong usage or configuration."""
    INCONCLUSIVE = 3
    """Could not decide: unreadable input, an unreachable node, no metric recognised. Never a pass."""
    REFUSED = 4
    """Refused as hostile content: a pickle that calls, a path that escapes."""
    INTERRUPTED = 130
    """Interrupted by the user."""


EXIT_CODES_HELP = (
    "Exit codes: 0 all is well; 1 what was checked or run has failed; 2 wrong usage or configuration; "
    "3 could not decide; 4 refused as hostile content; 130 interrupted."
)
"""One paragraph for the end of a `--help` text; `orz` adds it to every command that has no epilog of its own."""
