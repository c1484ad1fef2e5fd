"""Numbers of groups are no shares of them, and tokens no share of a mean: shares are made where both are known."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.run import Run

pytestmark = pytest.mark.unit

VERL: Final = "step:{step} - actor/pg_loss:0.01 - critic/score/mean:0.3{step} - critic/score/max:1.0"


def read(folder: Path, text: str) -> Run:
    path = folder / "train.log"
    path.write_text(text, encoding="utf-8")
    return load_run(path)


def values(run: Run, name: str) -> list[float]:
    return run.metrics[name].values.tolist() if name in run.metrics else []


def verl(groups: str, num: int = 40) -> str:
    return "".join(f"{VERL.format(step=step)} - {groups}\n" for step in range(1, num + 1))


@pytest.mark.parametrize(
    "groups",
    [
        "batch/solve_none:48 - batch/solve_all:8 - batch/solve_partial:8",
        "batch/solve_none:0.75 - batch/solve_all:0.125 - batch/solve_partial:0.125",
    ],
    ids=["numbers", "shares"],
)
def test_groups_of_forks_of_verl_are_shares_of_all(tmp_path: Path, groups: str) -> None:
    """DeepScaleR and RAGEN count groups, rLLM logs shares: 48 of 64 that all fail are three quarters in either case."""
    run = read(tmp_path, verl(groups))
    assert {0.75} == set(values(run, "reward/solve_none_frac"))
    assert {0.125} == set(values(run, "reward/solve_all_frac"))
    (finding,) = (finding for finding in judge(run).findings if finding.code == "zero_variance")
    assert "all their samples fail" in finding.title


def test_numbers_of_groups_alone_are_judged_by_no_share(tmp_path: Path) -> None:
    """Without the groups that are solved in part nobody knows of how many there were."""
    run = read(tmp_path, verl("batch/solve_none:48 - batch/solve_all:8"))
    assert {48.0} == set(values(run, "batch/solve_none"))
    assert "reward/solve_none_frac" not in run.metrics
    verdict = judge(run)
    assert "zero_variance" in {item.code for item in verdict.not_evaluated}
    assert "invariants" not in {finding.code for finding in verdict.findings}


def test_a_step_without_any_group_has_no_share(tmp_path: Path) -> None:
    """0 of 0 is no number; the steps around it keep theirs."""
    text = verl("batch/solve_none:1 - batch/solve_all:0 - batch/solve_partial:3", 2)
    none = f"{VERL.format(step=3)} - batch/solve_none:0 - batch/solve_all:0 - batch/solve_partial:0\n"
    run = read(tmp_path, text + none)
    assert [0.25, 0.25] == run.series("reward/solve_none_frac").values.tolist()


def test_groups_of_slime_are_added_up(tmp_path: Path) -> None:
    """One key for each reward that some groups agree on, and none for those that no group does."""
    keys = ("'rollout/zero_std/count_0.0': 30, 'rollout/zero_std/count_1.0': 12", "'rollout/zero_std/count_0.0': 5", "")
    text = "".join(
        f"[2026-09-04 01:0{i}:00 a] x.py:1 - rollout {i}: {{'rollout/raw_reward': 0.4{', ' if key else ''}{key}}}\n"
        f"[2026-09-04 01:0{i}:30 a] x.py:1 - step {i}: {{'train/loss': 0.01, 'train/grad_norm': 0.3}}\n"
        for i, key in enumerate(keys)
    )
    run = read(tmp_path, text)
    assert ([0, 1], [42.0, 5.0]) == (
        run.metrics["rollout/zero_variance_groups"].steps.tolist(),
        values(run, "rollout/zero_variance_groups"),
    )
    assert "rollout/zero_variance_frac" not in run.metrics
    assert [] == [finding.code for finding in judge(run).findings if finding.code == "invariants"]


@pytest.mark.parametrize("key", ["reward/num_zero_variance_filtered", "reward/num_zero_variance_groups"])
def test_groups_of_skyrl_are_a_number(tmp_path: Path, key: str) -> None:
    """57 groups that were left out are no share of 5,700 %."""
    text = "".join(
        f"2026-09-04 01:00:{step:02d}.000 | INFO     | skyrl:log:1 - Step {step}: \n"
        f"{{'{key}': '57.0000',\n 'reward/avg_raw_reward': '0.4100',\n 'policy/policy_loss': '0.0100'}}\n"
        for step in range(1, 31)
    )
    run = read(tmp_path, text)
    assert {57.0} == set(values(run, "rollout/zero_variance_groups"))
    verdict = judge(run)
    assert {"zero_variance", "invariants"}.isdisjoint(finding.code for finding in verdict.findings)
    (unjudged,) = (item for item in verdict.not_evaluated if item.code == "zero_variance")
    assert "not their share" in unjudged.remedy


def test_groups_of_prime_rl_are_shares(tmp_path: Path) -> None:
    """`sum(...) / problems_per_batch`: a fifth never solved, a tenth always, so three tenths without spread."""
    line = '{{"step": {step}, "time": 10.0, "reward/mean": 0.5, "batch/solve_none": 0.2, "batch/solve_all": 0.1, '
    text = "".join(line.format(step=step) + '"batch/effective_batch_size": 0.7}\n' for step in range(5))
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    run = load_run(path)
    assert {0.2} == set(values(run, "reward/solve_none_frac"))
    assert {0.1} == set(values(run, "reward/solve_all_frac"))
    assert [0.3] * 5 == pytest.approx(values(run, "rollout/zero_variance_frac"))


def test_the_spread_of_verls_ranks_is_told_by_their_mean(tmp_path: Path) -> None:
    """13,482 tokens between ranks of 137,935.5 are a tenth; what is dealt to the ranks is what was balanced."""
    spread = "global_seqlen/min:130982 - global_seqlen/max:144464 - global_seqlen/minmax_diff:13482"
    text = verl(f"{spread} - global_seqlen/mean:137935.5")
    run = read(tmp_path, text)
    assert [13482 / 137935.5] * 40 == pytest.approx(values(run, "balance/tokens_spread_frac"))
    uneven = text.replace("minmax_diff:13482", "minmax_diff:103482")
    assert "straggler" in {finding.code for finding in judge(read(tmp_path, uneven)).findings}
    balanced = uneven.replace("global_seqlen/mean", "global_seqlen/balanced_max:137936 - global_seqlen/mean")
    run = read(tmp_path, balanced)
    assert [137936 / 137935.5] * 40 == pytest.approx(values(run, "balance/tokens_max_over_mean"))
    assert "straggler" not in {finding.code for finding in judge(run).findings}
