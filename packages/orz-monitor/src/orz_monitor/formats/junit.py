"""A check as JUnit XML: a suite for each run, a case for each rule."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from orz_cli.findings import Severity
from orz_monitor.findings import Finding, rank
from orz_monitor.formats.document import Checked
from orz_monitor.formats.text import compared


def as_junit(checks: Sequence[Checked], fail_on: Severity) -> str:
    """Return JUnit XML; a rule that could not judge is a skipped case, an unreadable path an error."""
    suites = [_suite(check, fail_on) for check in checks]
    root = ET.Element("testsuites", name="orz monitor check")
    for key in ("tests", "failures", "errors"):  # the schema knows `skipped` of suites only
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _suite(check: Checked, fail_on: Severity) -> ET.Element:
    """Return the suite of one path."""
    suite = ET.Element("testsuite", name=xml_text(str(check.path)))
    if check.verdict is not None:
        for rule in check.verdict.passed:
            _case(suite, rule.code)
        for code in dict.fromkeys(finding.code for finding in check.verdict.findings):
            _finding_case(suite, check, code, fail_on)
        for item in check.verdict.not_evaluated:
            ET.SubElement(_case(suite, item.code), "skipped", message=xml_text(item.reason))
    if reason := check.reason(fail_on):
        ET.SubElement(_case(suite, "readable"), "error", message=xml_text(reason), type="inconclusive")
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(sum(case.find(tag) is not None for case in cases)))
    return suite


def _case(suite: ET.Element, name: str) -> ET.Element:
    """Add a case for one rule."""
    return ET.SubElement(suite, "testcase", classname="orz.monitor", name=name)


def _finding_case(suite: ET.Element, check: Checked, code: str, fail_on: Severity) -> None:
    """Add the case of a rule that found something; only what fails the check is a failure."""
    case = _case(suite, code)
    found = [f for f in check.verdict.findings if f.code == code] if check.verdict is not None else []
    failures = [finding for finding in found if rank(finding.severity) <= rank(fail_on)]
    if failures:
        failure = ET.SubElement(case, "failure", message=xml_text(failures[0].message), type=str(failures[0].severity))
        failure.text = xml_text("\n\n".join(_body(finding) for finding in failures))
    others = [finding for finding in found if finding not in failures]
    if others:
        ET.SubElement(case, "system-out").text = xml_text("\n\n".join(_body(finding) for finding in others))


def _body(finding: Finding) -> str:
    """Return the text of one finding."""
    lines = [f"{finding.severity}: {finding.message}", *(compared(item) for item in finding.evidence)]
    return "\n".join([*lines, f"try: {finding.remedy}"] if finding.remedy else lines)


def xml_text(text: str) -> str:
    """Replace the characters that XML 1.0 can't hold."""
    return "".join(c if c in "\t\n\r" or " " <= c <= "\ud7ff" or c >= "\ue000" else "\ufffd" for c in text).replace(
        "\ufffe", "\ufffd"
    )
