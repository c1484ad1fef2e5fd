"""The HTML report: one self-contained, well-formed page, whatever the run's texts hold."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from orz_monitor.configuration import Configuration, Ignore
from orz_monitor.engine import judge
from orz_monitor.formats.text import headline
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord
from orz_monitor.report.content import gather
from orz_monitor.report.html import as_html
from orz_monitor.report.markdown import as_markdown
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
VOID = {"meta", "br", "path", "circle", "rect"}


class Page(HTMLParser):
    """Checks that elements close in order, and collects them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(folder: Path) -> tuple[str, Page]:
    text = as_html(gather(judge(load_run(folder))))
    page = Page(text)
    assert page.open == []
    return text, page


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    """A run with errors, a restart, checkpoints, hostile texts and a metric of its own."""
    metrics = healthy_metrics(60)
    metrics["policy/loss"][50:] = np.nan
    metrics[f"mine/{HOSTILE}"] = np.arange(60.0)
    records = step_records(metrics)
    resumed = [*records[:30], EventRecord(event="resume", step=29, time=START + 60), *records[30:]]
    saved = [EventRecord(event="checkpoint_saved", step=step, time=START) for step in (20, 40)]
    failed = EventRecord(event="error", step=59, time=START + 130, data={"message": HOSTILE})
    write_run(tmp_path / "run", [*resumed, *saved, failed], finished=False)
    (tmp_path / "run/config.yaml").write_text(f"name: {HOSTILE}\n")
    return tmp_path / "run"


def test_the_page_needs_no_network_and_runs_no_other_script(sick: Path) -> None:
    """No address but the SVG-free markup's own; the policy allows exactly the one script by its hash."""
    text, page = page_of(sick)
    assert "http://" not in text
    assert "https://" not in text
    names = [tag for tag, _ in page.tags]
    assert {"link", "iframe", "img", "object", "image", "use"}.isdisjoint(names)
    assert names.count("script") == 1
    (script,) = re.findall(r"<script>(.*)</script>\n</body>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert str(policy).startswith("default-src 'none'")


def test_hostile_texts_stay_texts(sick: Path) -> None:
    """Names and messages from the log are shown, as text, and open no element or attribute."""
    _, page = page_of(sick)
    assert "alert(1)" in "".join(page.words)
    assert [a for _, a in page.tags if any(name.startswith("on") for name in a)] == []


def test_the_page_shows_findings_charts_and_marks(sick: Path) -> None:
    """Each finding is a card, each changing metric a labelled chart, restarts and checkpoints are drawn."""
    text, page = page_of(sick)
    assert "Unhealthy" in text
    assert 'class="finding card is-error"' in text
    assert "Last checkpoint before it: step 40" in text
    charts = [a for tag, a in page.tags if tag == "svg" and str(a.get("class")).split()[0] == "chart"]
    assert all(a.get("role") == "img" and a.get("aria-label") and a.get("tabindex") == "0" for a in charts)
    labels = " ".join(str(a["aria-label"]) for a in charts)
    assert "reward/mean: from" in labels
    assert text.count('class="restart"') > len(charts)  # one in each, and the legend's
    assert "dot eval" in text


def test_a_healthy_page_says_so(tmp_path: Path) -> None:
    """The verdict, the phases and what is not logged are there."""
    write_run(tmp_path, step_records(healthy_metrics(100)))
    text, _ = page_of(tmp_path)
    assert "Healthy" in text
    assert re.search(r"\d\d rules looked and found nothing", text)
    assert 'class="phasebar"' in text
    assert "rollout/repetition" in text  # not logged


@pytest.mark.parametrize(
    ("last_word", "num_steps", "verdict", "head"),
    [
        ("finish", 100, "Healthy", "steps 0 to 99, finished: nothing found."),
        (None, 100, "Healthy so far", "steps 0 to 99, unfinished: nothing found so far."),
        (
            "interrupted",
            100,
            "Healthy until it was interrupted",
            "steps 0 to 99, interrupted: nothing found.",
        ),
        (None, 3, "Nothing found so far", "steps 0 to 2, unfinished: nothing found so far."),
        ("interrupted", 3, "Nothing found until it was interrupted", "steps 0 to 2, interrupted: nothing found."),
        ("finish", 3, "Nothing found", "steps 0 to 2, finished: nothing found."),
    ],
)
def test_only_a_finished_run_gets_a_verdict_on_all_of_it(
    tmp_path: Path, last_word: str | None, num_steps: int, verdict: str, head: str
) -> None:
    """The page, its title and its Markdown say how far the verdict goes."""
    records = step_records(healthy_metrics(num_steps))
    end = [EventRecord(event=last_word, time=records[-1].time)] if last_word else []
    write_run(tmp_path / "run", [*records, *end], finished=False)
    content = gather(judge(load_run(tmp_path / "run", now=records[-1].time + 1)))
    text = as_html(content)
    assert f'<span class="badge {content.verdict_words[1]}">{verdict}</span>' in text
    assert f"<title>made-up: {verdict}</title>" in text
    first, _, second = as_markdown(content).splitlines()[:3]
    assert (f"# made-up: {verdict}", head) == (first, re.sub(r", \d+ (min|s):", ":", second))


def test_a_failure_that_is_ignored_is_no_whole_health(tmp_path: Path) -> None:
    """`.orz-monitor.toml` may ignore a crash; the run has not lived to its end for that."""
    write_run(tmp_path, step_records(healthy_metrics(100)), finished=False)
    console = 'Traceback (most recent call last):\n  File "a.py", line 1\nOSError: no space left\n'
    (tmp_path / "console.log").write_text(console, encoding="utf-8")
    ignored = Configuration(ignores=(Ignore(rule="crash", reason="known"), Ignore(rule="disk", reason="known")))
    verdict = judge(load_run(tmp_path), configuration=ignored)
    assert ("Healthy until it failed", "ok") == gather(verdict).verdict_words


@pytest.mark.parametrize(
    ("num_steps", "words"), [(3, "Nothing found until it fell silent"), (100, "Healthy until it fell silent")]
)
def test_of_a_run_that_fell_silent_nothing_is_said_so_far(tmp_path: Path, num_steps: int, words: str) -> None:
    """A month without a word is a note, or nothing where the user ignores it; in neither case the run goes on."""
    records = step_records(healthy_metrics(num_steps))
    write_run(tmp_path, records, finished=False)
    run = load_run(tmp_path, now=records[-1].time + 30 * 86_400)
    noted, ignored = judge(run), judge(run, configuration=Configuration(ignores=(Ignore(rule="stall", reason="x"),)))
    assert [words, words] == [gather(verdict).verdict_words[0] for verdict in (noted, ignored)]
    assert ["1 note", "nothing found"] == [headline(verdict) for verdict in (noted, ignored)]


@pytest.mark.parametrize("num_steps", [1, 2, 10_000])
def test_short_and_long_runs_make_pages_of_bounded_size(tmp_path: Path, num_steps: int) -> None:
    """One step is enough for a page, and ten thousand need less than a megabyte."""
    write_run(tmp_path, step_records(healthy_metrics(num_steps)))
    text, _ = page_of(tmp_path)
    assert len(text) < 1_000_000


def test_a_run_without_steps_has_a_page(tmp_path: Path) -> None:
    """A run that failed at once can be reported."""
    write_run(tmp_path, [EventRecord(event="error", time=START, data={"message": "no model"})], finished=False)
    text, _ = page_of(tmp_path)
    assert "no model" in text


def test_markdown_fits_a_comment(sick: Path) -> None:
    """At most 120 lines, tables whole, hostile text escaped."""
    text = as_markdown(gather(judge(load_run(sick))))
    assert len(text.splitlines()) <= 120
    assert "<script>" not in text
    assert all(line.endswith("|") for line in text.splitlines() if line.startswith("|"))


def test_a_run_too_short_to_judge_is_not_called_healthy(tmp_path: Path) -> None:
    """Three steps are few for most rules, and the page says so."""
    write_run(tmp_path, step_records(healthy_metrics(3)))
    text, _ = page_of(tmp_path)
    assert "Nothing found</span>" in text
    assert "could not judge" in text


def test_a_plain_number_has_no_unit(sick: Path) -> None:
    """`1` is the registry's word for it; in a table it would read as a value."""
    rows = [line for line in as_markdown(gather(judge(load_run(sick)))).splitlines() if line.startswith("| policy/")]
    units = {row.split(" | ")[0].strip("| "): row.split(" | ")[-1].strip("| ") for row in rows}
    assert "-" == units[r"policy/grad\_norm"]
    assert "nat" == units["policy/entropy"]
    assert "1" not in units.values()
