"""Updates that verl skips, which its log tells in words and no metric counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_cli.findings import Severity
from orz_monitor.findings import Finding
from orz_monitor.judge import Judge
from orz_monitor.loading import load_run

pytestmark = pytest.mark.component

SKIPPED = "(WorkerDict pid=7) WARN: rank {} grad_norm is not finite: nan"


def step(number: int, reward: float = 0.5, grad_norm: str = "0.3") -> str:
    return f"step:{number} - actor/pg_loss:0.5 - critic/score/mean:{reward} - actor/grad_norm:{grad_norm}"


def found(folder: Path, lines: list[str]) -> list[Finding]:
    log = folder / "train.log"
    log.write_text("\n".join([*lines, ""]))
    return [finding for finding in Judge.of()(load_run(log), log).findings if finding.code == "nonfinite"]


@pytest.mark.parametrize(
    ("words", "severity", "said"),
    [
        ([SKIPPED.format(3)], Severity.WARN, "1 policy update was skipped at step 3: grad_norm nan."),
        ([SKIPPED.format(0), SKIPPED.format(3)], Severity.WARN, "1 policy update was skipped at step 3"),
        ([SKIPPED.format(3)] * 3, Severity.ERROR, "3 policy updates were skipped in a row at step 3"),
    ],
    ids=["one", "one, told by two ranks", "three"],
)
def test_one_skipped_update_is_a_warning_and_several_an_error(
    tmp_path: Path, words: list[str], severity: Severity, said: str
) -> None:
    """They belong to the step that was being done; the first line that tells of them is pointed to."""
    lines = [*map(step, range(3)), *words, *map(step, range(3, 30))]
    (finding,) = found(tmp_path, lines)
    assert (severity, 3, 3, 4) == (finding.severity, finding.first_step, finding.last_step, finding.line)
    assert said in finding.message


def test_updates_of_neighbouring_steps_are_in_a_row(tmp_path: Path) -> None:
    """Those with a step between them are not: two warnings."""
    steps = [step(number) for number in range(30)]
    (finding,) = found(tmp_path, [*steps[:3], SKIPPED.format(3), steps[3], SKIPPED.format(3), *steps[4:]])
    assert (Severity.ERROR, 3, 4) == (finding.severity, finding.first_step, finding.last_step)
    apart = found(tmp_path, [*steps[:3], SKIPPED.format(3), *steps[3:6], SKIPPED.format(3), *steps[6:]])
    assert [(Severity.WARN, 3), (Severity.WARN, 6)] == [(finding.severity, finding.first_step) for finding in apart]


def test_a_skipped_update_after_which_the_reward_is_gone_is_an_error(tmp_path: Path) -> None:
    """A single one."""
    lines = [*map(step, range(20)), SKIPPED.format(3), step(20), *(step(number, 0.0) for number in range(21, 40))]
    assert [Severity.ERROR] == [finding.severity for finding in found(tmp_path, lines)]


def test_a_skipped_update_whose_gradient_is_logged_is_one_finding(tmp_path: Path) -> None:
    """The metric and the words tell of the same; two skipped updates in that step make it an error."""
    bad = step(20, grad_norm="nan")
    for words, severity in (([SKIPPED.format(3)], Severity.WARN), ([SKIPPED.format(3)] * 2, Severity.ERROR)):
        (finding,) = found(tmp_path, [*map(step, range(20)), *words, bad, *map(step, range(21, 40))])
        assert (severity, 20) == (finding.severity, finding.first_step)


def test_a_skipped_update_before_the_first_step_belongs_to_it(tmp_path: Path) -> None:
    """It belongs to the first step."""
    (finding,) = found(tmp_path, [SKIPPED.format(3), *map(step, range(5))])
    assert (Severity.WARN, 0) == (finding.severity, finding.first_step)
