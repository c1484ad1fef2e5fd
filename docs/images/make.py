"""Make the pictures of docs/images from a made-up run: the report, the live page, the terminal.

python docs/images/make.py    needs Chromium on PATH, playwright, and Pillow
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI

from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord
from orz_monitor.report.content import gather
from orz_monitor.report.html import as_html
from orz_monitor.run import Run
from orz_monitor.tail.lines import LastLines
from orz_monitor.tail.view import View
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

HERE = Path(__file__).parent
NOW = START + 220
"""When the pictures are taken, by the clock of the run: the same run makes the same picture, to the bit."""
COLORS = 64
"""Of a picture; a page of few colours looks the same with them and is a quarter of the size."""


def main() -> int:
    """Write the pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.stderr.write("no chromium on PATH: apt-get install chromium\n")
        return 1
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        run = sick_run(Path(name) / "quickstart")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = as_html(gather(judge(run)))
        for scheme in ("light", "dark"):
            shoot(browser, page, f"report-{scheme}.png", scheme=scheme, size=(1200, 1500))
        shoot(browser, terminal(run), "tail.png", scheme="dark", size=(1000, 560))
        browser.close()
    return 0


def sick_run(folder: Path) -> Run:
    """Return a run that goes well for 70 steps, then loses its entropy and its reward."""
    metrics = healthy_metrics(100, seed=3)
    fall = np.clip((np.arange(100) - 70) / 12, 0, 1)
    metrics["policy/entropy"] *= 1 - 0.97 * fall
    metrics["reward/mean"] *= 1 - 0.6 * fall
    metrics["policy/kl_ref"] *= 1 + 8 * fall
    metrics["rollout/truncated_frac"] = np.clip(metrics["rollout/truncated_frac"] + 0.5 * fall, 0, 1)
    began = NOW - 213
    records = step_records(metrics, start=began)
    saved = [EventRecord(event="checkpoint_saved", step=step, time=began + 2 * step) for step in (20, 40, 60, 80)]
    start = EventRecord(event="start", time=began, data={"recipe": "quickstart", "steps": 120})
    restart = EventRecord(event="resume", step=39, time=began + 80)
    return load_run(write_run(folder, [start, *records[:40], restart, *records[40:], *saved], finished=False), now=NOW)


def terminal(run: Run) -> str:
    """Return the live view at 100 columns as a page."""
    lines = LastLines()
    for step in range(95, 100):
        lines.feed(f"Actor model training, time cost: 0.3{step % 10}s\nstep {step} done\n".encode())
    console = Console(record=True, width=100, height=28, force_terminal=True, file=io.StringIO())
    console.print(View(title="quickstart", now=NOW, run=run, verdict=judge(run), lines=lines, height=27))
    return console.export_html(
        theme=MONOKAI,
        inline_styles=True,
        code_format=(
            '<body style="background:#101215;color:#d8dadd;margin:16px">'
            '<pre style="font:15px/1.25 DejaVu Sans Mono,monospace">{code}</pre></body>'
        ),
    )


def shoot(browser: Browser, page: str, name: str, *, scheme: str, size: tuple[int, int]) -> None:
    """Take a picture of a page."""
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(color_scheme=scheme, viewport=viewport)  # type: ignore[arg-type]
    tab = context.new_page()
    tab.set_content(page)
    picture = Image.open(io.BytesIO(tab.screenshot()))
    picture.convert("RGB").quantize(COLORS).save(HERE / name, optimize=True)
    context.close()


if __name__ == "__main__":
    sys.exit(main())
