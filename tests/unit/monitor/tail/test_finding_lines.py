"""A finding as one line of `tail --plain`."""

from __future__ import annotations

import pytest

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.tail.plain import finding_line

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("The run ended with an error: RuntimeError: boom", "The run ended with an error: RuntimeError: boom. Try: y."),
        ("The loss was NaN.", "The loss was NaN. Try: y."),
        ("It ended with: too long!", "It ended with: too long! Try: y."),
    ],
)
def test_words_of_a_log_end_before_what_to_try(message: str, said: str) -> None:
    """They may have no full stop of their own; without a cause nothing is added."""
    cause = Cause(what="x", confirm="x", try_="y")
    finding = Finding(code="crash", severity=Severity.ERROR, title="t", message=message, causes=(cause,))
    assert finding_line(finding) == f"error[crash] {said}"
    alone = Finding(code="crash", severity=Severity.ERROR, title="t", message=message, causes=())
    assert finding_line(alone) == f"error[crash] {message}"
