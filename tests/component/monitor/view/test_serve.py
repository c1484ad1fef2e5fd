"""`orz monitor serve`: the live page in a real browser, Prometheus, and who may ask for what."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orz_cli.errors import UsageError
from orz_cli.main import main
from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, dumps
from orz_monitor.serve.exposition import exposition, gauge_name
from orz_monitor.serve.live import LiveReport
from orz_monitor.serve.server import ReportServer
from orz_monitor.tail.source import Source
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component

OpenPage = Callable[..., Any]
TIMEOUT_S = 60


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that goes on, with a finding, at step 59."""
    metrics = healthy_metrics(60)
    metrics["policy/kl_ref"][50] = np.inf
    folder = write_run(tmp_path / "run", step_records(metrics, start=time.time() - 125), finished=False)
    (folder / "config.yaml").write_text("kl:\n  estimator: k3\n")
    return folder


@pytest.fixture
def serving() -> Iterator[Callable[[Path], str]]:
    """Serve paths in processes of their own; return the address."""
    processes: list[subprocess.Popen[str]] = []

    def start(path: Path) -> str:
        command = [sys.executable, "-m", "orz_cli", "monitor", "serve", str(path), "--port", "0"]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        stdout = processes[-1].stdout
        assert stdout is not None
        return stdout.readline().strip()

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=TIMEOUT_S)
        assert 130 == process.returncode, out
        assert "Traceback" not in out


def ask(url: str, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Send a request and return status, headers and body."""
    connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=TIMEOUT_S)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def wait_for_version(url: str, least: int) -> dict[str, Any]:
    """Wait until the server has judged the run that often."""
    deadline = time.monotonic() + TIMEOUT_S
    while (state := json.loads(ask(url, "/state")[2]))["version"] < least:
        assert time.monotonic() < deadline, state
        time.sleep(0.05)
    return state


def append(run: Path, *records: Any) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write("".join(dumps(record) + "\n" for record in records))


def test_the_page_follows_the_run(visit: OpenPage, serving: Callable[[Path], str], run: Path) -> None:
    """Without a reload: a new step arrives, and the reader's choice of lines and open parts stays."""
    url = serving(run)
    wait_for_version(url, 1)
    one = visit()
    one.page.goto(url)
    one.page.wait_for_selector("text=steps 0 to 59")
    one.page.get_by_label("smoothed").check()
    one.page.locator("summary", has_text="metrics.jsonl, lines").first.click()
    (more,) = step_records({"reward/mean": np.array([0.5])}, first_step=60, start=time.time())
    append(run, more)
    one.page.wait_for_selector("text=steps 0 to 60")
    assert one.page.get_by_label("smoothed").is_checked()
    assert one.page.locator("details").first.evaluate("d => d.open")
    chart = one.page.locator('svg.chart[data-name="policy/entropy"]')
    chart.hover()
    assert "step " in one.page.locator(".panel", has_text="policy/entropy").first.locator(".value").inner_text()
    assert [] == one.complaints
    assert all(request.startswith(url) for request in one.requests)


def test_a_page_opened_before_the_run_shows_it_when_it_comes(
    visit: OpenPage, serving: Callable[[Path], str], tmp_path: Path
) -> None:
    """It says what it waits for."""
    url = serving(tmp_path / "later")
    assert "orz_up 0.0" in ask(url, "/metrics")[2]
    assert 503 == ask(url, "/report.json")[0]
    one = visit()
    one.page.goto(url)
    one.page.wait_for_selector("text=not there yet")
    write_run(tmp_path / "later", step_records(healthy_metrics(30)))
    one.page.wait_for_selector("text=steps 0 to 29")
    assert [] == one.complaints


def test_a_server_that_ends_leaves_its_last_page(visit: OpenPage, run: Path) -> None:
    """The page says that it is no longer told anything."""
    command = [sys.executable, "-m", "orz_cli", "monitor", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        one = visit()
        one.page.goto(server.stdout.readline().strip())
        one.page.wait_for_selector("text=steps 0 to 59")
        server.terminate()
    one.page.wait_for_selector("text=The server does not answer")
    assert one.page.locator("text=steps 0 to 59").count()


def test_who_asks_for_another_host_gets_nothing(serving: Callable[[Path], str], run: Path) -> None:
    """DNS rebinding: a name that is not this server's is refused whatever the path; numbers and localhost are not."""
    url = serving(run)
    port = url.rstrip("/").rpartition(":")[2]
    for path in ("/", "/body", "/state", "/metrics", "/report.json"):
        status, _, body = ask(url, path, Host=f"evil.example:{port}")
        assert 421 == status
        assert "--allow-host" in body
    for host in (f"localhost:{port}", "LOCALHOST", f"127.0.0.1:{port}", f"[::1]:{port}", "localhost."):
        assert 200 == ask(url, "/state", Host=host)[0], host
    for host in ("localhost.evil.example", "127.0.0.1.evil.example", "evil.example:127.0.0.1", ""):
        assert 421 == ask(url, "/state", Host=host)[0], host


def test_nothing_can_be_written(serving: Callable[[Path], str], run: Path) -> None:
    """Every method but GET and HEAD is refused, and unknown paths are not looked for on the disk."""
    url = serving(run)
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        status, headers, _ = ask(url, "/", method=method)
        assert 405 == status
        assert "GET, HEAD" == headers["Allow"]
    assert 404 == ask(url, "/../../etc/passwd")[0]
    assert 404 == ask(url, "/metrics.jsonl")[0]
    status, headers, body = ask(url, "/", method="HEAD")
    assert (200, "") == (status, body)
    assert int(headers["Content-Length"]) > 1000


def test_every_answer_forbids_the_browser_everything_else(serving: Callable[[Path], str], run: Path) -> None:
    """A strict policy, no sniffing, no frames, no caches; no CORS header at all."""
    url = serving(run)
    for path in ("/", "/state", "/metrics", "/nothing"):
        _, headers, _ = ask(url, path)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe-inline" not in headers["Content-Security-Policy"].partition("script-src")[2]
        assert "nosniff" == headers["X-Content-Type-Options"]
        assert "no-store" == headers["Cache-Control"]
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_prometheus_reads_it(serving: Callable[[Path], str], run: Path) -> None:
    """Names, labels and values; no step as a label."""
    url = serving(run)
    wait_for_version(url, 1)
    status, headers, body = ask(url, "/metrics")
    assert 200 == status
    assert headers["Content-Type"].startswith("text/plain; version=")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }
    loaded = load_run(run)
    assert loaded.metrics["policy/loss"].values[-1] == samples["orz_policy_loss", ()]
    assert loaded.metrics["policy/kl_ref"].values[-1] == samples["orz_kl_ref", (("estimator", "k3"),)]
    assert loaded.last_progress == samples["orz_last_progress_timestamp_seconds", ()]
    assert 1 == samples["orz_finding_active", (("rule", "nonfinite"), ("severity", "warn"))]
    assert 0 == samples["orz_finding_active", (("rule", "crash"), ("severity", "error"))]
    assert 59 == samples["orz_step", ()]
    assert not [labels for _, labels in samples if "step" in dict(labels)]


def test_hostile_names_make_a_page_that_prometheus_can_still_read(tmp_path: Path) -> None:
    """Quotes, ends of lines, escapes and many names: labels, capped."""
    records = step_records({f'x"\n\\{index}\x1b[31m': np.array([1.0]) for index in range(500)})
    text = exposition(judge(load_run(write_run(tmp_path, records)))).decode()
    (family,) = [one for one in text_string_to_metric_families(text) if one.name == "orz_metric"]
    assert 300 == len(family.samples)
    assert all("\x1b" not in sample.labels["name"] for sample in family.samples)


def test_names_of_gauges() -> None:
    """The registry's name without what is the user's."""
    assert "orz_policy_loss" == gauge_name("policy/loss")
    assert "orz_kl_ref" == gauge_name("policy/kl_ref")
    assert "orz_eval_accuracy" == gauge_name("eval/<set>/accuracy")
    assert "orz_storage_free_bytes" == gauge_name("storage/free_bytes/<node>")


def test_a_port_in_use_is_a_clear_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which, and what to do; exit code 2."""
    with Source(run) as source, ReportServer(LiveReport(source)) as server:
        port = server.server_address[1]
        assert 2 == main(["monitor", "serve", str(run), "--port", str(port)])
    err = capsys.readouterr().err
    assert f"port {port} on 127.0.0.1 is in use" in err
    assert "--port 0" in err


def test_an_address_that_is_not_this_machines(run: Path) -> None:
    """TEST-NET-3 belongs to nobody."""
    with Source(run) as source, pytest.raises(UsageError, match=r"203\.0\.113\.1, port 0: can't be bound to"):
        ReportServer(LiveReport(source), host="203.0.113.1")


def test_more_names_can_be_allowed(run: Path) -> None:
    """`--allow-host`, and the name it is bound under; nothing that only looks alike."""
    with Source(run) as source, ReportServer(LiveReport(source), hosts=("Box.Lab",)) as server:
        assert server.may_ask("box.lab:80")
        assert not server.may_ask("box.lab.evil")
        assert not server.may_ask(None)


def test_a_run_that_fails_is_shown_as_failed(serving: Callable[[Path], str], run: Path) -> None:
    """The title of the tab says so."""
    url = serving(run)
    wait_for_version(url, 1)
    append(run, EventRecord(event="error", time=START, data={"message": "boom"}))
    state = wait_for_version(url, 2)
    assert "run: Unhealthy" == state["title"]
    assert os.path.basename(run) in ask(url, "/")[2]  # noqa: PTH119 - the name alone
