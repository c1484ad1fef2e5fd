from __future__ import annotations

import pytest

from orz_cli.exits import ExitCode
from orz_cli.findings import Finding, Severity, Status, status_of, to_json

pytestmark = pytest.mark.unit

WARNING = Finding(code="shm_small", severity=Severity.WARN, message="64 MiB", remedy="--shm-size=8g")
ERROR = Finding(code="vllm_twice", severity=Severity.ERROR, message="both")


def test_shape_of_the_json_object():
    """The keys, their order and the version are what all judging commands publish; others come after them."""
    expected = {
        "v": 1,
        "status": "ok",
        "findings": [{"code": "shm_small", "severity": "warn", "message": "64 MiB", "remedy": "--shm-size=8g"}],
        "machine": {"num_cores": 2},
    }
    actual = to_json(Status.OK, [WARNING], machine={"num_cores": 2})
    assert expected == actual
    assert list(expected) == list(actual)


@pytest.mark.parametrize(
    ("findings", "status"),
    [([], Status.OK), ([WARNING], Status.OK), ([WARNING, ERROR], Status.FAILED)],
)
def test_only_errors_fail(findings, status):
    """A warning is no failure, one error among them is."""
    assert status == status_of(iter(findings))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.OK, ExitCode.OK),
        (Status.FAILED, ExitCode.FAILED),
        (Status.INCONCLUSIVE, ExitCode.INCONCLUSIVE),
        (Status.REFUSED, ExitCode.REFUSED),
    ],
)
def test_each_status_has_its_exit_code(status, code):
    """The status in the JSON object and the exit code say the same."""
    assert code == status.exit_code
