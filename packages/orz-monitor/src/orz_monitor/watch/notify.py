"""Tell of a finding: run a command, or post to an address."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from typing import Final, TypeAlias

from orz_cli.errors import UsageError

COMMAND_TIMEOUT_S: Final = 60.0
POST_TIMEOUT_S: Final = 10.0
_SHOWN: Final = 300
"""Characters of a command's complaint that are shown."""

Notify: TypeAlias = Callable[[bytes], str]
"""Tells of a finding, given as JSON; returns why that failed, or nothing."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: a finding goes where the user said, nowhere else."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


def notifier(target: str, *, timeout_s: float | None = None) -> Notify:
    """Make a function that tells of findings.

    Args:
        target: an http or https address, to which JSON is posted; or a command with its arguments, which is run
            without a shell and gets the JSON on its stdin.
        timeout_s: how long one attempt may take, in seconds.

    Raises:
        UsageError: the command is empty, can't be parsed, or does not exist.
    """
    if target.lower().startswith(("http://", "https://")):
        return lambda document: _post(target, document, timeout_s or POST_TIMEOUT_S)
    try:
        arguments = shlex.split(target)
    except ValueError as error:
        raise UsageError(f"--notify {target!r} can't be parsed: {error}", remedy="quote it as a shell would") from error
    if not arguments or shutil.which(arguments[0]) is None:
        raise UsageError(
            f"--notify: no such command: {arguments[0] if arguments else '(empty)'!r}",
            remedy="give a command on PATH with its arguments, or an http(s) address",
        )
    return lambda document: _run(arguments, document, timeout_s or COMMAND_TIMEOUT_S)


def _run(arguments: list[str], document: bytes, timeout_s: float) -> str:
    """Run a command with a finding on its stdin, and end it with all it started when its time is over."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own command, no shell
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return f"can't be run: {error.strerror or error}"
    with process:
        try:
            _, complaint = process.communicate(document, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            return f"took longer than {timeout_s:g} s"
        except BaseException:
            process.kill()
            raise
    if process.returncode == 0:
        return ""
    said = complaint.decode("utf-8", errors="replace").strip()[-_SHOWN:]
    return f"left with exit code {process.returncode}" + (f": {said}" if said else "")


def _post(url: str, document: bytes, timeout_s: float) -> str:
    """Post a finding as JSON."""
    headers = {"Content-Type": "application/json", "User-Agent": "orz-monitor"}
    request = urllib.request.Request(url, data=document, headers=headers, method="POST")  # noqa: S310 - http(s) only
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"was answered with {error.code} {error.reason}"
    except (OSError, HTTPException, ValueError) as error:
        return f"can't be reached: {getattr(error, 'reason', error)}"
