"""Write what a command judged, in the format that was asked for."""
# ruff: noqa: PLC0415  `orz --help` loads this module, and must be back at once

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from orz_ckpt.cli.options import Format
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orz_ckpt.report.judged import Judged


def write_judged(
    judged: Judged,
    output: Format,
    fail_on: Severity,
    *,
    document: Callable[[Severity], Mapping[str, Any]],
    text: Callable[[Severity], None],
) -> None:
    """Write to stdout.

    Args:
        judged: what was found.
        output: how to write it.
        fail_on: the severity from which on a finding fails the command.
        document: returns the JSON object of the command's result.
        text: prints the result for people.
    """
    if output is Format.TEXT:
        text(fail_on)
    elif output is Format.JSON:
        sys.stdout.write(json.dumps(document(fail_on), indent=2) + "\n")
    elif output is Format.SARIF:
        from orz_ckpt.report.sarif import to_sarif

        sys.stdout.write(json.dumps(to_sarif(judged, fail_on), indent=2) + "\n")
    elif output is Format.JUNIT:
        from orz_ckpt.report.junit import to_junit

        sys.stdout.write(to_junit(judged, fail_on))
    else:
        from orz_ckpt.report.github import to_github

        sys.stdout.write(to_github(judged, fail_on))
