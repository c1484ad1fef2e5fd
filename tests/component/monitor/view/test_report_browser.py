"""The HTML report in a real browser: nothing complains, nothing is fetched, hover, keyboard and themes work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord
from orz_monitor.report.content import gather
from orz_monitor.report.html import as_html
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component

OpenPage = Callable[..., Any]
HOSTILE = "<img src=http://127.0.0.1:9/x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report with findings, a restart, checkpoints and hostile names."""
    folder = tmp_path_factory.mktemp("report")
    metrics = healthy_metrics(60)
    metrics["policy/kl_ref"][50] = np.inf
    metrics[f"mine/{HOSTILE}"] = np.arange(60.0)
    records = step_records(metrics)
    resumed = [*records[:30], EventRecord(event="resume", step=29, time=START + 60), *records[30:]]
    saved = [EventRecord(event="checkpoint_saved", step=step, time=START) for step in (20, 40)]
    run = write_run(folder / "run", [*resumed, *saved])
    (run / "config.yaml").write_text(f"name: {HOSTILE}\n")
    path = folder / "report.html"
    path.write_text(as_html(gather(judge(load_run(run)))))
    return path.as_uri()


def test_nothing_complains_and_nothing_is_fetched(visit: OpenPage, report: str) -> None:
    """No message in the console, no request but the page itself; hostile names are text."""
    one = visit()
    one.page.on("dialog", lambda dialog: one.complaints.append(f"dialog {dialog.message}"))
    one.page.goto(report)
    one.page.mouse.move(300, 300)
    assert [] == one.complaints
    assert [report] == one.requests
    assert 0 == one.page.locator("img").count()
    assert HOSTILE == one.page.locator("h1").inner_text()


def test_hover_shows_the_value_of_every_chart_at_that_step(visit: OpenPage, report: str) -> None:
    """The pointer's step and its value stand above the chart, and above all the others; leaving restores them."""
    one = visit()
    one.page.goto(report)
    panel = one.page.locator(".panel", has_text="rollout/response_tokens_mean").first
    other = one.page.locator(".panel", has_text="policy/entropy").first
    resting = other.locator(".value").inner_text()
    chart = panel.locator("svg.chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    one.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert re.search(r"^[\d.]+ step \d+$", panel.locator(".value").inner_text())
    at = re.search(r"step (\d+)", panel.locator(".value").inner_text())
    assert at is not None
    assert f"step {at[1]}" in other.locator(".value").inner_text()
    assert "on" in (chart.locator(".cursor").get_attribute("class") or "").split()
    one.page.mouse.move(0, 0)
    assert resting == other.locator(".value").inner_text()


def test_the_keyboard_does_what_the_pointer_does(visit: OpenPage, report: str) -> None:
    """Tab reaches a chart, arrows walk its steps."""
    one = visit()
    one.page.goto(report)
    for _ in range(60):
        one.page.keyboard.press("Tab")
        if one.page.evaluate("document.activeElement.classList.contains('chart')"):
            break
    value = one.page.locator("svg.chart:focus").locator("xpath=ancestor::figure").locator(".value")
    one.page.keyboard.press("Home")
    assert "step 0" in value.inner_text()
    one.page.keyboard.press("ArrowRight")
    assert "step 1" in value.inner_text()
    one.page.keyboard.press("End")
    assert "step 59" in value.inner_text()


def test_lines_can_be_chosen_without_a_script(visit: OpenPage, report: str) -> None:
    """Both, as logged, smoothed: with scripts switched off."""
    one = visit(java_script_enabled=False)
    one.page.goto(report)
    chart = one.page.locator('svg.chart.smooths[data-name="policy/entropy"]')
    raw, smooth = chart.locator("path.raw"), chart.locator("path.smooth")
    assert raw.is_visible()
    assert smooth.is_visible()
    one.page.get_by_label("as logged").check()
    assert raw.is_visible()
    assert not smooth.is_visible()
    one.page.get_by_label("smoothed").check()
    assert smooth.is_visible()
    assert not raw.is_visible()


def luminance(colour: str) -> float:
    """Return the relative luminance of an `rgb(...)`, as WCAG 2 defines it."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_can_be_read(visit: OpenPage, report: str, scheme: str) -> None:
    """The page follows the system's theme, and text stands out from it by 4.5 to 1 at least."""
    one = visit(color_scheme=scheme)
    one.page.goto(report)
    style = "e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor]"
    for selector in ("h1", ".lede", ".panel .meaning", "footer", ".finding .where"):
        text, page = one.page.locator(selector).first.evaluate(style)
        low, high = sorted((luminance(text), luminance(page)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector
    assert (luminance(page) > 0.5) is (scheme == "light")


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out(visit: OpenPage, report: str, width: int) -> None:
    """A phone and a desktop: the page is never wider than the window."""
    one = visit(viewport={"width": width, "height": 800})
    one.page.goto(report)
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints(visit: OpenPage, report: str) -> None:
    """Chromium makes a PDF of it."""
    one = visit()
    one.page.goto(report)
    assert one.page.pdf().startswith(b"%PDF")
