"""Thresholds, suppressions, presets, baselines, envelopes and users' rules, as a user gives them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orz_cli.main import main
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration in the developer's working directory must not matter."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def truncating(tmp_path: Path) -> Path:
    metrics = healthy_metrics(60)
    metrics["rollout/truncated_frac"][30:] = 0.3
    metrics["reward/mean"][:] = 0.5 + 0.02 * np.random.default_rng(1).standard_normal(60)
    metrics["reward/solved_frac"] = metrics["reward/mean"]
    return write_run(tmp_path / "run", step_records(metrics))


def codes(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, str]:
    """Return code to severity of the findings of a check."""
    main(["monitor", "check", str(run), "--json", *options])
    return {item["code"]: item["severity"] for item in json.loads(capsys.readouterr().out)["findings"]}


@pytest.mark.parametrize(
    ("toml", "severity"),
    [
        ("", "warn"),
        ("[rules.truncation]\nwarn_frac = 0.4\n", "info"),
        ("[rules.truncation]\nwarn_frac = 0.4\nnote_frac = 0.4\n", None),
        ("[rules.truncation]\nerror_frac = 0.2\n", "error"),
        ("[rules.truncation]\nerror_frac = 0.2\nseverity = 'info'\n", "info"),
        ("[rules.truncation]\nseverity = 'off'\n", None),
        ("[rules.truncation]\nmin_points = 100\n", None),
        ('ignore = [{rule = "truncation", reason = "known"}]\n', None),
        ('ignore = [{rule = "truncation", reason = "known", until = "2001-01-01"}]\n', "warn"),
        ('ignore = [{rule = "truncation", reason = "known", last_step = 5}]\n', "warn"),
    ],
)
def test_thresholds_and_suppressions(
    truncating: Path, capsys: pytest.CaptureFixture[str], toml: str, severity: str | None
) -> None:
    """The file beside the run counts: levels, severities, what is left out and what is ignored, and until when."""
    (truncating / ".orz-monitor.toml").write_text(toml, encoding="utf-8")
    assert severity == codes(truncating, capsys).get("truncation")


def test_an_ignored_finding_is_listed(truncating: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It doesn't count, and it doesn't disappear."""
    (truncating / ".orz-monitor.toml").write_text(
        'ignore = [{rule = "truncation", reason = "short limit on purpose", until = 2999-01-01}]\n', encoding="utf-8"
    )
    assert main(["monitor", "check", str(truncating), "--fail-on", "warn"]) == 0
    assert "ignored until 2999-01-01: truncation: By step 59" in capsys.readouterr().out
    assert main(["monitor", "check", str(truncating), "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)["ignored"]
    assert ("truncation", "short limit on purpose", "2999-01-01") == (item["code"], item["reason"], item["until"])


def test_the_order_of_configurations(truncating: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--config before the one beside the run, that before the one of the working directory."""
    off, on = "[rules.truncation]\nseverity = 'off'\n", "[rules.truncation]\nerror_frac = 0.2\n"
    (tmp_path / ".orz-monitor.toml").write_text(off, encoding="utf-8")
    assert codes(truncating, capsys).get("truncation") is None
    (truncating / ".orz-monitor.toml").write_text(on, encoding="utf-8")
    assert codes(truncating, capsys).get("truncation") == "error"
    (tmp_path / "mine.toml").write_text(off, encoding="utf-8")
    assert codes(truncating, capsys, "--config", "mine.toml").get("truncation") is None


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[rules.entropy_lo]\n", "rules.entropy_lo: no such rule; did you mean entropy_low"),
        ("[rules.truncation]\nwarn_fra = 1\n", "rules.truncation.warn_fra: no such setting; did you mean warn_frac"),
        ("[rules.truncation]\nwarn_frac = 'x'\n", "rules.truncation.warn_frac: got 'x', expected a number from 0 on"),
        ("[rules.truncation]\nramp_steps = 0\n", "rules.truncation.ramp_steps: got '0', expected a whole number"),
        ("[rules.truncation]\nseverity = 'warning'\n", "did you mean warn?"),
        (
            "[rules.clip_frac]\npersistence = '8/5'\n",
            "rules.clip_frac.persistence: got '8/5', expected hits in a window",
        ),
        ("preset = 'gppo'\n", "preset: got 'gppo', expected one of"),
        ("rule = 1\n", "rule: no such setting; did you mean rules"),
        ('ignore = [{rule = "kl_spik", reason = "x"}]\n', "ignore[0].rule: got 'kl_spik'"),
        ('ignore = [{rule = "kl_spike"}]\n', "ignore[0].reason: got 'None'"),
        (
            'ignore = [{rule = "kl_spike", reason = "x", until = "soon"}]\n',
            "ignore[0].until: got 'soon', expected a day",
        ),
        ("rules = 3\n", "rules: got '3', expected a table"),
        ("[rules\n", "no TOML"),
        ("[rules.truncation]\nwarn_frac = nan\n", "expected a number from 0 on"),
    ],
)
def test_a_mistake_in_the_configuration_is_refused(
    truncating: Path, capsys: pytest.CaptureFixture[str], toml: str, said: str
) -> None:
    """Exit 2, the place, what was found and the nearest name; no traceback."""
    (truncating / ".orz-monitor.toml").write_text(toml, encoding="utf-8")
    assert main(["monitor", "check", str(truncating)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    assert "Traceback" not in error


def test_all_mistakes_are_told_at_once(truncating: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody wants to correct one at a time."""
    (truncating / ".orz-monitor.toml").write_text("presett = 1\n[rules.nothing]\n[rules.ratio]\nx = 1\n")
    assert main(["monitor", "check", str(truncating)]) == 2
    error = capsys.readouterr().err
    assert ["presett:" in error, "rules.nothing:" in error, "rules.ratio.x:" in error] == [True] * 3


def test_persistence_is_short_for_hits_and_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three steps of clipping are below 5/8 and above 2/8."""
    metrics = healthy_metrics(60) | {"policy/clip_frac": np.where(np.arange(60) >= 57, 0.4, 0.0)}
    metrics["reward/mean"][:] = metrics["reward/solved_frac"][:] = 0.5
    run = write_run(tmp_path / "run", step_records(metrics))
    assert "clip_frac" not in codes(run, capsys)
    (run / ".orz-monitor.toml").write_text('[rules.clip_frac]\npersistence = "2/8"\n', encoding="utf-8")
    assert codes(run, capsys).get("clip_frac") == "warn"


def test_presets_are_detected_shown_and_overridden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration without a KL term makes drift a note; --preset makes it a warning again."""
    metrics = healthy_metrics(100)
    metrics["policy/kl_ref"][50:] = 0.05 + np.linspace(0, 0.8, 50)
    metrics["reward/mean"][30:] = 0.45 + 0.02 * np.random.default_rng(1).standard_normal(70)
    metrics["reward/solved_frac"] = metrics["reward/mean"]
    run = write_run(tmp_path / "run", step_records(metrics))
    assert codes(run, capsys).get("kl_drift") == "warn"
    (run / "config.yaml").write_text("kl:\n  reward_coef: 0.0\n  loss_coef: 0.0\n", encoding="utf-8")
    assert codes(run, capsys).get("kl_drift") == "info"
    assert codes(run, capsys, "--preset", "rlhf-kl").get("kl_drift") == "warn"
    main(["monitor", "check", str(run)])
    assert (
        "judged as kl-free: it trains a critic, and its configuration has no KL coefficient" in capsys.readouterr().out
    )
    assert main(["monitor", "check", str(run), "--preset", "gpro"]) == 2
    assert "did you mean grpo?" in capsys.readouterr().err


def test_a_run_is_compared_with_a_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tenth of the reward lost is a regression, with its own tolerance it is not; the same run is none."""
    metrics = healthy_metrics(60)
    good = write_run(tmp_path / "good", step_records(metrics))
    worse = dict(metrics) | {"reward/mean": metrics["reward/mean"] * 0.85}
    bad = write_run(tmp_path / "bad", step_records(worse))
    assert "regression" not in codes(good, capsys, "--baseline", str(good))
    assert codes(bad, capsys, "--baseline", str(good)).get("regression") == "error"
    assert "regression" not in codes(bad, capsys)
    (bad / ".orz-monitor.toml").write_text("[rules.regression]\nreward = 0.3\n", encoding="utf-8")
    assert "regression" not in codes(bad, capsys, "--baseline", str(good))
    assert main(["monitor", "check", str(bad), "--baseline", str(tmp_path / "none")]) == 3


def test_a_slower_run_is_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half as much time again is beyond the tolerance of a fifth."""
    good = write_run(tmp_path / "good", step_records(healthy_metrics(60), step_s=2.0))
    slow = write_run(tmp_path / "slow", step_records(healthy_metrics(60), step_s=3.0))
    assert codes(slow, capsys, "--baseline", str(good)).get("regression") == "warn"


def test_a_run_is_compared_with_a_published_course(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At step 100 ORZ's 7B had a reward of 0.60: 0.3 is off its course, 0.58 is on it."""
    metrics = healthy_metrics(120)
    metrics["rollout/response_tokens_mean"] = np.full(120, 700.0)
    for level, expected in ((0.3, "warn"), (0.58, None)):
        metrics["reward/mean"] = metrics["reward/solved_frac"] = np.minimum(np.linspace(0.06, 2, 120), level)
        run = write_run(tmp_path / f"run{level}", step_records(metrics))
        assert codes(run, capsys, "--envelope", "orz-7b").get("envelope") == expected
    assert main(["monitor", "check", str(run), "--envelope", "orz-7"]) == 2
    assert "did you mean orz-7b?" in capsys.readouterr().err


RULES = '''
from orz_cli.findings import Severity
from orz_monitor.findings import Finding

def too_short(run):
    """Responses have at least 10 tokens."""
    if run.series("rollout/response_tokens_mean").values[-1] < 10:
        return None
    return Finding(code="too_short", severity=Severity.WARN, title="t", message="m", causes=())

def two(run, other): ...
def broken(run): return 1 / 0
def wrong(run): return "no"
def crash(run): ...
nothing = 3

from orz_monitor.findings import Sighting
from orz_monitor.rules.base import Rule

def other(run):
    return [Finding(code="b", severity=Severity.WARN, title="t", message="m", causes=())]

whole = Rule(code="whole", title="t", check=lambda run, limits: 1 / 0)
whole_other = Rule(code="a", title="t", check=lambda run, limits: other(run))
whole_late = Rule(
    code="late", title="t", check=lambda run, limits: [Sighting(severity=Severity.WARN, describe=lambda one: 1 / 0)]
)
whole_limits = Rule(code="limits", title="t", check=lambda run, limits: [], limits=None)
whole_lacks = Rule(code="lacks", title="t", check=lambda run, limits: [], lacks=lambda run: 1 / 0)
whole_hinders = Rule(code="hinders", title="t", check=lambda run, limits: [], hinders=lambda run: None)
whole_good = Rule(code="b", title="t", check=lambda run, limits: other(run))
'''


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("two", "got def two(run, other)"),
        ("broken", "raised ZeroDivisionError on run"),
        ("wrong", "returned 'no', expected"),
        ("crash", "the code 'crash' is taken by orz monitor"),
        ("nothing", "got int, expected"),
        ("missing", "AttributeError"),
        ("whole", "raised ZeroDivisionError on run"),
        ("whole_late", "raised ZeroDivisionError on run"),
        ("whole_other", "a finding has the code 'b'"),
        ("whole_limits", "its limits are 'None', expected a dataclass"),
        ("whole_lacks", "raised ZeroDivisionError on run"),
        ("whole_hinders", "said 'None' of why it can't judge run, expected a text"),
    ],
)
def test_a_users_rule_that_is_none(
    truncating: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    """What is wrong with it is said, without a traceback."""
    module = f"users_rules_{name}"
    (tmp_path / f"{module}.py").write_text(RULES, encoding="utf-8")
    assert main(["monitor", "check", str(truncating), "--rule", f"{module}:{name}"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_users_rule_finds(truncating: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its findings count like ours, in formats that list rules too, and can be turned off in the configuration."""
    (tmp_path / "users_rules_good.py").write_text(RULES, encoding="utf-8")
    option = ("--rule", "users_rules_good:too_short")
    assert codes(truncating, capsys, *option).get("too_short") == "warn"
    assert codes(truncating, capsys, "--rule", "users_rules_good:whole_good").get("b") == "warn"
    for output in ("text", "sarif", "junit"):
        assert main(["monitor", "check", str(truncating), *option, "--format", output]) == 0
        assert "too_short" in capsys.readouterr().out
    (truncating / ".orz-monitor.toml").write_text("[rules.too_short]\nseverity = 'off'\n", encoding="utf-8")
    assert "too_short" not in codes(truncating, capsys, *option)
    assert main(["monitor", "check", str(truncating), "--rule", "users_rules_good"]) == 2
