"""One verdict in every format, read back with the parsers of its readers."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from orz_cli.findings import Severity
from orz_cli.main import main
from orz_monitor.engine import judge
from orz_monitor.errors import UnreadableRunError
from orz_monitor.formats import Format
from orz_monitor.formats.document import Checked, as_json
from orz_monitor.formats.github import as_github
from orz_monitor.formats.junit import as_junit
from orz_monitor.formats.sarif import as_sarif
from orz_monitor.loading import load_run
from orz_monitor.rules import RULES
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component


@pytest.fixture
def checks(tmp_path: Path) -> list[Checked]:
    """A healthy run, a sick one, and a path that is none."""
    sick = healthy_metrics(60)
    sick["policy/loss"][40:] = np.nan
    del sick["policy/kl_ref"]
    write_run(tmp_path / "healthy", step_records(healthy_metrics(60)))
    write_run(tmp_path / "sick, 50%: a", step_records(sick))
    unreadable = UnreadableRunError("train.log: no metric recognised in 2 lines", remedy="give a run folder")
    return [
        *(Checked(path=tmp_path / n, verdict=judge(load_run(tmp_path / n))) for n in ("healthy", "sick, 50%: a")),
        Checked(path=Path("train.log"), error=unreadable),
    ]


def test_the_shared_json_shape(checks: list[Checked]) -> None:
    """Keys that scripts rely on, findings with code, place, evidence and remedy, and what was not judged."""
    found = json.loads(as_json(checks), parse_constant=pytest.fail)
    assert (1, "failed", "ppo") == (found["v"], found["status"], found["preset"])
    assert [run["status"] for run in found["runs"]] == ["ok", "failed", "inconclusive"]
    assert "no metric recognised" in found["runs"][2]["reason"]
    (finding,) = found["findings"]
    assert {
        "code": "nonfinite",
        "severity": "error",
        "title": "Non-finite values",
        "first_step": 40,
        "last_step": 59,
        "line": 42,
        "run": "sick, 50%: a",
    }.items() <= finding.items()
    assert finding["file"].endswith("metrics.jsonl")
    assert finding["message"]
    assert finding["remedy"]
    assert finding["evidence"][0]["observed"] == "nan"
    assert {"policy/loss", "reward/mean"} <= set(found["coverage"]["metrics"])
    assert {"kl_drift", "kl_spike", "explained_variance"} <= {item["code"] for item in found["not_evaluated"]}


def test_an_unreadable_path_alone_is_inconclusive(checks: list[Checked]) -> None:
    """Nothing recognised is never a pass, and one healthy run beside it does not make it one."""
    assert json.loads(as_json(checks[2:]))["status"] == "inconclusive"
    assert json.loads(as_json([checks[0], checks[2]]))["status"] == "inconclusive"
    assert json.loads(as_json([checks[0]]))["status"] == "ok"


def test_junit_counts_add_up(checks: list[Checked]) -> None:
    """A suite for each path, a case for each rule, failures only from the given severity on."""
    root = ET.fromstring(as_junit(checks, Severity.ERROR))  # noqa: S314 - our own text
    suites = root.findall("testsuite")
    assert [suite.get("failures") for suite in suites] == ["0", "1", "0"]
    assert [suite.get("errors") for suite in suites] == ["0", "0", "1"]
    skipped = [len(c.verdict.not_evaluated) if c.verdict is not None else 0 for c in checks]
    assert [suite.get("skipped") for suite in suites] == [str(count) for count in skipped]
    assert len(RULES) == len(suites[0].findall("testcase")) == len(suites[1].findall("testcase"))
    for count in ("tests", "failures", "errors"):
        assert int(root.get(count, "")) == sum(int(suite.get(count, "")) for suite in suites)
    assert root.get("skipped") is None  # the schema of JUnit has it for suites only
    (failure,) = root.iter("failure")
    assert "policy/loss was NaN" in str(failure.get("message"))


def test_sarif_has_rules_results_and_places(checks: list[Checked]) -> None:
    """Each result names a listed rule and a line; the fingerprint does not depend on how long the episode is."""
    (run,) = json.loads(as_sarif(checks))["runs"]
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "nonfinite"
    place = result["locations"][0]["physicalLocation"]
    assert place["region"] == {"startLine": 42}
    assert place["artifactLocation"]["uri"].startswith("file:///")
    assert " " not in place["artifactLocation"]["uri"]
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert "no metric recognised" in notification["message"]["text"]


def test_keys_that_are_left_out_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """12,002 different keys in two lines: 2,002 are more than the 10,000 that are kept, each counted once."""
    items = " - ".join(f"key/{at}:{at}" for at in range(12_000))
    line = f" - critic/score/mean:0.3 - actor/entropy:0.5 - {items}\n"
    (tmp_path / "a.log").write_text(f"step:1{line}step:2{line}")
    main(["monitor", "check", str(tmp_path / "a.log"), "--json"])
    coverage = json.loads(capsys.readouterr().out)["coverage"]
    assert (9_998, 2_002) == (len(coverage["unrecognised"]), coverage["dropped_keys"])
    main(["monitor", "check", str(tmp_path / "a.log")])
    assert "not read: keys beyond the first 10000: 2002" in capsys.readouterr().out


def test_sarif_makes_no_links_of_log_text(tmp_path: Path) -> None:
    """Brackets are escaped (2.1.0, section 3.11.6), and a backslash before one can't undo that."""
    log = tmp_path / "crash.log"
    log.write_text(
        'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: [see](http://e.x) \\[a](1)\n'
    )
    (run,) = json.loads(as_sarif([Checked(path=log, verdict=judge(load_run(log)))]))["runs"]
    text = run["results"][0]["message"]["text"]
    assert r"\[see\](http://e.x) \\\[a\](1)" in text
    unreadable = [Checked(path=Path("x"), error=UnreadableRunError("x: [a](b)", remedy="none"))]
    assert r"\[a\](b)" in as_sarif(unreadable).replace("\\\\", "\\")


def test_github_commands_are_escaped(checks: list[Checked]) -> None:
    """Paths with commas, colons and per cent signs stay one property, messages one line."""
    error, unreadable = as_github(checks).splitlines()
    assert error.startswith("::error file=")
    assert "sick%2C 50%25%3A a" in error
    assert ",line=42,title=Non-finite values::policy/loss" in error
    assert "%0ATry: " in error
    assert unreadable.startswith("::error file=train.log,title=Could not decide::")


def test_a_crash_before_any_metric_is_decided(tmp_path: Path) -> None:
    """It is one failure, and not besides something that could not be decided; a signal alone decides nothing."""
    log = tmp_path / "crash.log"
    log.write_text('Traceback (most recent call last):\n  File "a.py", line 1, in f\nRuntimeError: boom\n')
    crashed = [Checked(path=log, verdict=judge(load_run(log)))]
    assert [line.partition("::")[2].split()[0] for line in as_github(crashed).splitlines()] == ["error"]
    root = ET.fromstring(as_junit(crashed, Severity.ERROR))  # noqa: S314 - our own text
    assert (root.get("failures"), root.get("errors")) == ("1", "0")
    (invocation,) = json.loads(as_sarif(crashed))["runs"][0]["invocations"]
    assert invocation["toolExecutionNotifications"] == []
    assert "reason" not in json.loads(as_json(crashed))["runs"][0]
    log.write_text("torch.distributed.elastic.multiprocessing.api.SignalException: got signal: 15\n")
    signalled = [Checked(path=log, verdict=judge(load_run(log)))]
    assert "Could not decide" in as_github(signalled)


def test_a_signal_before_any_metric_is_what_the_exit_code_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where warnings fail a check it has failed, and no format says besides that it could not decide."""
    log = tmp_path / "signal.log"
    log.write_text("torch.distributed.elastic.multiprocessing.api.SignalException: got signal: 15\n")
    said = {}
    for fail_on, code in (("warn", 1), ("error", 3)):
        for form in Format:
            assert code == main(["monitor", "check", str(log), "--fail-on", fail_on, "--format", form])
            said[fail_on, form] = capsys.readouterr().out
    for fail_on, undecided in (("warn", 0), ("error", 1)):
        assert undecided == said[fail_on, Format.GITHUB].count("Could not decide")
        assert undecided == said[fail_on, Format.TEXT].count("no metric recognised yet")
        root = ET.fromstring(said[fail_on, Format.JUNIT])  # noqa: S314 - our own text
        assert (str(1 - undecided), str(undecided)) == (root.get("failures"), root.get("errors"))
        (run,) = json.loads(said[fail_on, Format.SARIF])["runs"]
        assert undecided == len(run["invocations"][0]["toolExecutionNotifications"])
        (checked,) = json.loads(said[fail_on, Format.JSON])["runs"]
        assert ("inconclusive" if undecided else "failed", bool(undecided)) == (checked["status"], "reason" in checked)


def test_a_run_that_began_again_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs in one file are no fault, and look like one run otherwise."""
    steps = [*range(1, 31), *range(1, 21)]
    log = tmp_path / "train.log"
    log.write_text(
        "".join(f"step:{step} - actor/pg_loss:0.0{step % 7} - critic/score/mean:0.4{step % 9}\n" for step in steps)
    )
    assert main(["monitor", "check", str(log)]) == 0
    assert "restarted at step 1: of a step that was made again, the last values count" in capsys.readouterr().out
