"""A report as one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from string import Template

from orz_monitor.report.cards import findings
from orz_monitor.report.content import Content
from orz_monitor.report.course import provenance, time_spent
from orz_monitor.report.escape import escaped
from orz_monitor.report.overview import footer, header
from orz_monitor.report.panels import metrics


def as_html(content: Content) -> str:
    """Return the page: styles, script and charts inside it, and a policy that forbids everything else."""
    script = _template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sections = (header, findings, metrics, time_spent, provenance, footer)
    word, _ = content.verdict_words
    return Template(_template("report.html")).substitute(
        title=escaped(content.facts.title),
        verdict_word=escaped(word),
        css=_template("report.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        body="\n".join(section(content) for section in sections),
    )


def _template(name: str) -> str:
    """Read a file that comes with this package."""
    return resources.files("orz_monitor.report").joinpath("templates", name).read_text(encoding="utf-8")
