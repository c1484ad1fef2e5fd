"""A report as one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from string import Template
from typing import Final

from orz_monitor.report.cards import findings
from orz_monitor.report.content import Content
from orz_monitor.report.course import provenance, time_spent
from orz_monitor.report.escape import escaped
from orz_monitor.report.missing import missing
from orz_monitor.report.overview import footer, header
from orz_monitor.report.panels import metrics
from orz_monitor.report.saves import saves_table

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src '{script}'; {connect}base-uri 'none'; form-action 'none'"
)


def as_html(content: Content) -> str:
    """Return the page: styles, script and charts inside it, and a policy that forbids everything else."""
    return page(content.facts.title, content.verdict_words[0], body_of(content))


def body_of(content: Content) -> str:
    """Return what the page shows, without its frame."""
    sections = (header, findings, metrics, saves_table, time_spent, provenance, missing, footer)
    return "\n".join(section(content) for section in sections)


def page(title: str, word: str, body: str, *, live: bool = False) -> str:
    """Return the frame of a page around a body.

    Args:
        title: name of the run.
        word: the verdict.
        body: HTML.
        live: whether the page asks its server for what is new.
    """
    return framed(title, word, body, script=page_script(live=live), policy=page_policy(live=live))


def framed(title: str, word: str, body: str, *, script: str = "", policy: str = "", styles: str = "") -> str:
    """Return the frame that all pages of orz monitor share around a body.

    Args:
        title: name of what is shown.
        word: the verdict.
        body: HTML.
        script: JavaScript that the policy allows.
        policy: the page's Content-Security-Policy; one without scripts by default.
        styles: CSS beside that of reports.
    """
    return Template(_template("report.html")).substitute(
        title=escaped(title),
        verdict_word=escaped(word),
        css=_template("report.css") + styles,
        script=script,
        policy=policy or _policy(script),
        body=body,
    )


def page_script(*, live: bool) -> str:
    """Return the script of a page."""
    return _template("report.js") + (_template("live.js") if live else "")


def page_policy(*, live: bool) -> str:
    """Return the policy that lets a page run its own script and nothing else."""
    return _policy(page_script(live=live), connect="connect-src 'self'; " if live else "")


def _policy(script: str, *, connect: str = "") -> str:
    """Return the policy that lets one script run; `connect` is what it may talk to."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _POLICY.format(script=f"sha256-{digest}", connect=connect)


def _template(name: str) -> str:
    """Read a file that comes with this package."""
    return resources.files("orz_monitor.report").joinpath("templates", name).read_text(encoding="utf-8")
