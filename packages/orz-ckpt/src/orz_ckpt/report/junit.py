"""A JUnit file: one test case a file that was looked at, and one for the whole.

Format: the de-facto schema, https://github.com/testmoapp/junitxml.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from orz_ckpt.report.words import plain
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.report.judged import Judged


def to_junit(judged: Judged, fail_on: Severity = Severity.ERROR) -> str:
    """Return the XML document; findings that decide nothing go to `system-out`."""
    paths = list(dict.fromkeys([judged.path, *judged.checked, *(entry.path for entry in judged.findings)]))
    suite = ET.Element("testsuite", name=f"orz ckpt {judged.command}", time=f"{judged.seconds:.3f}")
    failures = errors = 0
    for path in paths:
        case = ET.SubElement(suite, "testcase", classname=f"orz.ckpt.{judged.kind}", name=plain(path))
        mine = [entry for entry in judged.findings if entry.path == path]
        decisive = [entry for entry in mine if _decides(entry, fail_on)]
        if decisive:
            unknown = all(entry.status is Status.INCONCLUSIVE and _is_error(entry) for entry in decisive)
            child = ET.SubElement(case, "error" if unknown else "failure", message=_said(decisive))
            child.text = _lines(decisive)
            errors, failures = errors + unknown, failures + (not unknown)
        others = [entry for entry in mine if not _decides(entry, fail_on)]
        if others:
            ET.SubElement(case, "system-out").text = _lines(others)
    for key, number in (("tests", len(paths)), ("failures", failures), ("errors", errors), ("skipped", 0)):
        suite.set(key, str(number))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _decides(entry: CkptFinding, fail_on: Severity) -> bool:
    return _is_error(entry) or (fail_on is Severity.WARN and entry.severity is Severity.WARN)


def _is_error(entry: CkptFinding) -> bool:
    return entry.severity is Severity.ERROR


def _said(findings: Sequence[CkptFinding]) -> str:
    """Return what a list of failures shows of one: code and sentence of the first finding, and how many more."""
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return f"{findings[0].code}: {plain(findings[0].message)}{more}"


def _lines(findings: Sequence[CkptFinding]) -> str:
    lines = [
        f"{entry.severity.value} {entry.code}: {plain(entry.message)}"
        + (f"\n  -> {plain(entry.remedy)}" if entry.remedy else "")
        for entry in findings
    ]
    return "\n".join(lines)
