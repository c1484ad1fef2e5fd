"""`orz monitor watch` and `explain`: told once, told again where it failed, and never through a shell."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from orz_cli.findings import Severity
from orz_cli.main import main
from orz_monitor.addresses import located
from orz_monitor.findings import Finding
from orz_monitor.records import EventRecord
from orz_monitor.testing import healthy_metrics, step_records, write_run
from orz_monitor.watch.doubtful_end import DoubtfulEnd
from orz_monitor.watch.memory import Memory, default_file
from orz_monitor.watch.notify import notifier
from orz_monitor.watch.watch import Watch

pytestmark = pytest.mark.component


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    metrics = healthy_metrics(60)
    metrics["reward/mean"][40:] = 0.0
    metrics["reward/solved_frac"] = metrics["reward/mean"]
    return write_run(tmp_path / "sick", step_records(metrics))


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A command that appends what it gets, and its arguments, to a file beside it."""
    script = tmp_path / "record.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "with pathlib.Path(__file__).with_suffix('.jsonl').open('a') as file:\n"
        "    file.write(json.dumps([sys.argv[1:], json.load(sys.stdin)]) + '\\n')\n"
    )
    return script


def told(recorder: Path) -> list[list[object]]:
    file = recorder.with_suffix(".jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def finding(first: int, last: int, severity: Severity = Severity.WARN) -> Finding:
    return Finding(
        code="kl_spike", severity=severity, title="t", message="m", causes=(), first_step=first, last_step=last
    )


def test_each_finding_is_told_once(sick: Path, recorder: Path, tmp_path: Path) -> None:
    """Also by a second watch; arguments arrive as they are, since no shell reads them."""
    command = f"{sys.executable} {recorder} '$(id)' 'a b;c'"
    arguments = ["monitor", "watch", str(sick), "--notify", command, "--state", str(tmp_path / "state" / "s.json")]
    assert main(arguments) == 1
    ((words, document),) = told(recorder)
    assert words == ["$(id)", "a b;c"]
    assert isinstance(document, dict)
    assert document["finding"]["code"] == "reward_floor"
    assert document["finding"]["line"] == 42
    assert main(arguments) == 1
    assert len(told(recorder)) == 1


def test_an_episode_that_goes_on_is_the_same_and_one_that_gets_worse_is_new(tmp_path: Path) -> None:
    """Overlapping steps are one episode; a later one is another."""
    memory = Memory.load(tmp_path / "s.json")
    memory.add(finding(10, 20))
    assert memory.knows(finding(10, 30))
    assert memory.knows(finding(25, 40))  # it was seen to go on to 30
    assert not memory.knows(finding(50, 60))
    assert not memory.knows(finding(10, 20, Severity.ERROR))
    assert not memory.knows(replace(finding(10, 20), code="kl_drift"))
    memory.add(finding(12, 30, Severity.ERROR))
    again = Memory.load(tmp_path / "s.json")
    assert again.knows(finding(12, 30, Severity.ERROR))
    assert again.knows(finding(12, 30))
    (tmp_path / "s.json").write_text('{"told": [{"code": 1}]}')
    assert Memory.load(tmp_path / "s.json").told == []


def test_what_could_not_be_told_is_tried_again(sick: Path, tmp_path: Path) -> None:
    """Pauses double; nothing is marked as told before it was."""
    answers = ["is broken", "is broken", ""]
    now, said, attempts = [0.0], list[str](), list[bytes]()

    def notify(document: bytes) -> str:
        attempts.append(document)
        return answers[len(attempts) - 1]

    memory = Memory.load(tmp_path / "s.json")
    watch = Watch(
        path=sick, notify=notify, memory=memory, severity=Severity.WARN, say=said.append, clock=lambda: now[0]
    )
    assert not watch.done(watch.look())
    now[0] = 4.0
    watch.look()
    assert len(attempts) == 1
    now[0] = 5.0
    watch.look()
    now[0] = 14.9
    watch.look()
    assert len(attempts) == 2
    now[0] = 15.0
    assert watch.done(watch.look())
    assert len(attempts) == 3
    assert "next attempt in 5 s" in said[0]
    assert "next attempt in 10 s" in said[1]
    assert said[2].startswith("told: error[reward_floor]")


@pytest.mark.parametrize(("step_s", "patience_s"), [(10, 60), (100, 200), (5000, 1800)])
def test_an_error_at_the_end_of_a_log_waits_for_a_further_step(
    tmp_path: Path, step_s: float, patience_s: float
) -> None:
    """As long as two steps take, a minute to half an hour; a command that ends the job is not run for a handled one."""
    log, now, said = tmp_path / "train.log", [0.0], list[str]()
    line = "step:{} - actor/pg_loss:0.5 - critic/score/mean:0.25 - timing_s/step:" + f"{step_s}\n"
    error = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: bad\n'
    log.write_text("".join(map(line.format, range(5))) + error)
    documents: list[dict[str, dict[str, object]]] = []

    def notify(document: bytes) -> str:
        documents.append(json.loads(document))
        return ""

    watch = Watch(
        path=log,
        notify=notify,
        memory=Memory.load(tmp_path / "s.json"),
        severity=Severity.ERROR,
        say=said.append,
        clock=lambda: now[0],
    )
    assert not watch.done(watch.look())
    with log.open("a") as file:
        file.write(line.format(5))
    assert not watch.done(watch.look())  # it was handled
    with log.open("a") as file:
        file.write(error)
    for at, is_over in ((1.0, False), (patience_s, False), (patience_s + 1.0, True)):
        now[0] = at
        assert is_over is watch.done(watch.look())
        assert (["crash"] if is_over else []) == [document["finding"]["code"] for document in documents]
    assert [f"an error or a signal ends the log; told in {patience_s} s, unless a step follows"] * 2 == said[:2]
    os.utime(log, (0, 0))
    old = replace(watch, memory=Memory.load(tmp_path / "t.json"), _end=DoubtfulEnd())
    assert old.done(old.look())  # nobody writes it any more
    assert 2 == len(documents)


def test_one_look_and_a_run_that_says_itself_that_it_failed_wait_for_nothing(tmp_path: Path) -> None:
    """The records of a run of ours have its last word."""
    log = tmp_path / "train.log"
    log.write_text("step:1 - actor/pg_loss:0.5 - critic/score/mean:0.25\nCUDA error: x\n")
    records = [*step_records(healthy_metrics(5)), EventRecord(event="error", time=1e9, data={"message": "no"})]
    for path, once in ((log, True), (write_run(tmp_path / "run", records, finished=False), False)):
        told_codes: list[str] = []

        def notify(document: bytes, told_codes: list[str] = told_codes) -> str:
            told_codes.append(json.loads(document)["finding"]["code"])
            return ""

        watch = Watch(
            path=path,
            notify=notify,
            memory=Memory.load(tmp_path / f"{path.name}.json"),
            severity=Severity.ERROR,
            say=lambda _: None,
            once=once,
        )
        assert watch.done(watch.look())
        assert ["crash"] == told_codes


def test_the_memory_of_a_url_is_one_wherever_the_watch_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is of the working directory, a URL is not."""
    places = [located("http://host/c.log"), Path("c.log")]
    here = [default_file(place, "true", {"XDG_STATE_HOME": "state"}) for place in places]
    monkeypatch.chdir(tmp_path)
    there = [default_file(place, "true", {"XDG_STATE_HOME": "state"}) for place in places]
    assert [one == other for one, other in zip(here, there, strict=True)] == [True, False]


def test_one_look_promises_no_other(sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --once, what could not be told waits for the next watch."""
    arguments = ["monitor", "watch", str(sick), "--once", "--notify", "false", "--state", str(tmp_path / "s.json")]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "left with exit code 1; the next watch tries again" in err
    assert "next attempt" not in err


def test_a_command_that_fails_or_hangs(tmp_path: Path) -> None:
    """What it says on stderr is shown; one that hangs is ended, with what it started."""
    fails = tmp_path / "fails.py"
    fails.write_text("import sys\nsys.exit('no network')\n")
    assert notifier(f"{sys.executable} {fails}")(b"{}") == "left with exit code 1: no network"
    hangs = tmp_path / "hangs.py"
    hangs.write_text("import time\ntime.sleep(600)\n")
    assert notifier(f"{sys.executable} {hangs}", timeout_s=0.2)(b"{}") == "took longer than 0.2 s"


class _Server(BaseHTTPRequestHandler):
    """Takes what is posted; answers with the status that the path names."""

    got: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(int(self.path.strip("/")))
        self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    _Server.got.clear()
    with HTTPServer(("127.0.0.1", 0), _Server) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_posts(server: str) -> None:
    """JSON is posted; an error is told, and a redirect is not followed."""
    assert notifier(f"{server}/200")(b'{"v": 1}') == ""
    assert notifier(f"{server}/500")(b"{}").startswith("was answered with 500")
    assert notifier(f"{server}/302")(b"{}").startswith("was answered with 302")
    assert [path for path, _ in _Server.got] == ["/200", "/500", "/302"]
    assert _Server.got[0][1] == b'{"v": 1}'
    assert "can't be reached" in notifier("http://127.0.0.1:1/")(b"{}")


def test_wrong_usage_and_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No such command, a quote that is not closed; a run that is not there yet is waited for, or exit 3 at once."""
    missing = str(tmp_path / "missing")
    for command in ("no-such-command-anywhere", "'open", ""):
        assert main(["monitor", "watch", missing, "--notify", command]) == 2
    state = ["--state", str(tmp_path / "s.json")]
    assert main(["monitor", "watch", missing, "--notify", sys.executable, "--once", *state]) == 3
    err = capsys.readouterr().err
    assert "missing: no such file or folder" in " ".join(err.split())
    assert "waiting: " not in err, "one look waits for nothing"
    assert "Traceback" not in err


@pytest.mark.parametrize("every", ["nan", "inf", "1e400", "1e300", "0", "often"])
def test_an_interval_that_cannot_be_waited_for(every: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NaN, no end, longer than the system sleeps, none, and no number: exit 2 before the first look."""
    assert main(["monitor", "watch", str(tmp_path), "--notify", sys.executable, "--every", every]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --every: expected a number from 0.1 to 604,800, got ")
    assert err.endswith("\n  -> orz monitor watch --help\n")


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    """A rule, a metric, one with a part of the user's, a word; and the nearest name of a mistyped one."""
    assert main(["monitor", "explain", "kl_drift", "policy/kl_ref", "eval/x/accuracy", "kl"]) == 0
    out = capsys.readouterr().out
    assert "KL to the reference stays in proportion" in out
    assert "policy/kl_ref  [nat]" in out
    assert "eval/<set>/accuracy" in out
    assert "'kl' may also mean: policy/kl_ref_seq" in out
    assert main(["monitor", "explain", "kl_drif"]) == 2
    assert "did you mean kl_drift" in capsys.readouterr().err
