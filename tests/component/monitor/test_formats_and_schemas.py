"""SARIF, JUnit and GitHub output against what their readers accept, and with hostile text in every place.

SARIF is validated against OASIS's own schema (tests/golden/schemas), and against a subset of it, written here, in which
every object is closed: the published one lets most objects hold anything. JUnit is validated against the schema of
Jenkins' xUnit plugin, which is closed itself.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import pytest
import xmlschema
from rich.console import Console

from orz_cli.findings import Severity
from orz_monitor.engine import NotEvaluated, Verdict, judge
from orz_monitor.errors import UnreadableRunError
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.formats.document import Checked, as_json
from orz_monitor.formats.github import as_github
from orz_monitor.formats.junit import as_junit
from orz_monitor.formats.sarif import as_sarif
from orz_monitor.formats.text import print_checks
from orz_monitor.loading import load_run
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component

HOSTILE = "<b>&\"'\x1b[31m\x1b]8;;http://x\x07 ]]> \x00\ud800\u202e%0A::error::\r\n::set-env name=A::B,x:y"


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
MESSAGE = closed(["text"], text=TEXT)
LEVEL = {"enum": ["none", "note", "warning", "error"]}
URI = {"type": "string", "pattern": r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?:[A-Za-z0-9._~!$&'()*+,;=@/:-]|%[0-9A-F]{2})+$"}
LOCATION = closed(
    ["physicalLocation"],
    physicalLocation=closed(
        ["artifactLocation"],
        artifactLocation=closed(["uri"], uri=URI),
        region=closed(["startLine"], startLine={"type": "integer", "minimum": 1}),
    ),
)
NOTIFICATION = closed(
    ["message"], level=LEVEL, message=MESSAGE, locations={"type": "array", "items": LOCATION, "uniqueItems": True}
)
RESULT = closed(
    ["message", "ruleId"],
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": -1},
    level=LEVEL,
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION},
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
)
RULE = closed(["id"], id=TEXT, shortDescription=MESSAGE)
DRIVER = closed(["name"], name=TEXT, version=TEXT, rules={"type": "array", "items": RULE, "uniqueItems": True})
INVOCATION = closed(
    ["executionSuccessful"],
    executionSuccessful={"type": "boolean"},
    toolExecutionNotifications={"type": "array", "items": NOTIFICATION},
)
RUN = closed(
    ["tool"],
    tool=closed(["driver"], driver=DRIVER),
    invocations={"type": "array", "items": INVOCATION, "uniqueItems": True},
    results={"type": "array", "items": RESULT},
)
SARIF = closed(
    ["version", "runs"],
    **{"$schema": {"type": "string", "format": "uri"}, "version": {"const": "2.1.0"}},
    runs={"type": "array", "items": RUN},
)

SCHEMAS = Path(__file__).parents[2] / "golden/schemas"
PUBLISHED = SCHEMAS / "sarif-2.1.0-rtm.5.json"
JUNIT = xmlschema.XMLSchema10(SCHEMAS / "junit-10.xsd")


def hostile_check(folder: Path) -> list[Checked]:
    """A run whose finding has hostile text wherever text from a log can be, and a path that is hostile itself."""
    run = load_run(write_run(folder / "run", step_records(healthy_metrics(30))))
    finding = Finding(
        code="crash",
        severity=Severity.ERROR,
        title=HOSTILE,
        message=HOSTILE,
        causes=(Cause(what=HOSTILE, confirm=HOSTILE, try_=HOSTILE),),
        evidence=(Evidence(metric=HOSTILE, observed=float("nan"), observed_is=HOSTILE),),
        file=Path("logs/a b%: c\x1b[31m.log"),
        line=3,
    )
    skipped = NotEvaluated(code="stall", title="t", reason=HOSTILE)
    verdict = Verdict(run=run, findings=(finding,), passed=(), not_evaluated=(skipped,))
    error = UnreadableRunError(HOSTILE, remedy=HOSTILE)
    return [Checked(path=Path("a: b\x1b[0m"), verdict=verdict), Checked(path=Path("x:y z"), error=error)]


def real_check(folder: Path) -> list[Checked]:
    sick = healthy_metrics(60)
    sick["policy/loss"][40:] = np.nan
    sick["policy/kl_ref"][55] = np.inf
    paths = [
        write_run(folder / "healthy", step_records(healthy_metrics(60))),
        write_run(folder / "sick, 50%: a", step_records(sick)),
    ]
    return [Checked(path=path, verdict=judge(load_run(path))) for path in paths]


@pytest.fixture(params=[real_check, hostile_check])
def checks(request: pytest.FixtureRequest, tmp_path: Path) -> list[Checked]:
    made: list[Checked] = request.param(tmp_path)
    return made


def test_sarif(checks: list[Checked]) -> None:
    """Every key is one of the format's, every place a reference that a URI parser accepts."""
    log = json.loads(as_sarif(checks))
    published = jsonschema.Draft4Validator(json.loads(PUBLISHED.read_text(encoding="utf-8")))
    assert [error.message for error in published.iter_errors(log)] == []
    jsonschema.validate(log, SARIF, cls=jsonschema.Draft202012Validator)
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert log["runs"][0]["results"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log | {"more": 1}, SARIF)
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert not published.is_valid(log)


@pytest.mark.parametrize("fail_on", [Severity.ERROR, Severity.WARN])
def test_junit(checks: list[Checked], fail_on: Severity) -> None:
    """Valid by the published schema, which lets neither an unknown attribute nor a missing one pass."""
    text = as_junit(checks, fail_on)
    JUNIT.validate(text)
    root = ET.fromstring(text.encode())  # noqa: S314 - our own text
    assert list(root.iter("failure"))
    counts = {"tests", "failures", "errors", "skipped"}
    assert all(suite.attrib[name].isdigit() for suite in root.iter("testsuite") for name in counts)
    root[0].set("file_name", "a.log")
    assert not JUNIT.is_valid(root)
    del root[0].attrib["file_name"], root[0].attrib["tests"]
    assert not JUNIT.is_valid(root)


def test_github(checks: list[Checked]) -> None:
    """One command a line, with properties that the runner knows, and nothing that starts another command."""
    line = re.compile(r"::(error|warning|notice) file=[^,:\r\n]+(,line=\d+)?,title=[^,:\r\n]+::[^\r\n]+")
    text = as_github(checks)
    assert text
    for command in text.split("\n"):
        assert line.fullmatch(command), command
    assert "\x1b" not in text


def test_text_for_people(checks: list[Checked]) -> None:
    """No terminal command of a log's reaches the terminal."""
    for terminal in (False, True):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, no_color=True, width=100, highlight=False)
        print_checks(console, checks, Severity.ERROR)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())  # rich's own bold and dim
        assert "\x1b" not in plain
        assert "\x1b]8" not in out.getvalue()
        assert "\u202e" not in plain


def test_json_has_what_scripts_read(checks: list[Checked]) -> None:
    """The keys of the shared shape, in ASCII, and numbers that JSON has."""
    text = as_json(checks)
    assert text.isascii()
    found = json.loads(text, parse_constant=pytest.fail)
    finding_keys = {"code", "severity", "title", "message", "remedy", "evidence", "first_step", "last_step"}
    assert {"v", "status", "findings", "not_evaluated", "coverage", "preset"} <= set(found)
    for finding in found["findings"]:
        assert finding_keys | {"file", "line"} <= set(finding)
