"""When a run says that sampler and trainer disagree."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import pytest

from orz_train.config.schema import Config
from orz_train.mismatch import METRIC, MismatchWatch, explained_gap
from orz_train.types import StepReport

pytestmark = pytest.mark.unit

MakeConfig = Callable[..., Config]


def watched(config: Config, gaps: Sequence[float], *, versions: Sequence[int] | None = None) -> dict[int, str]:
    """Return the warnings of a run by step; the gaps are those of steps 1, 2, ..."""
    watch, said = MismatchWatch(), {}
    for step, gap in enumerate(gaps, start=1):
        version = versions[step - 1] if versions else step - 1
        report = StepReport(step=step, metrics={METRIC: gap}, seconds={}, policy_version=version)
        warning = watch.warning(report, config)
        if warning is not None:
            said[step] = str(warning["message"])
    return said


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 1e-3),
        ({"policy": {"dtype": "bfloat16"}}, 0.1),
        ({"generation": {"top_p": 0.5}}, 1e-3 + math.log(2)),
        ({"generation": {"top_k": 20}}, math.inf),
    ],
)
def test_what_a_run_explains(make_config: MakeConfig, settings: dict[str, object], expected: float) -> None:
    """The precision, and the mass that truncated sampling leaves out."""
    assert expected == pytest.approx(explained_gap(make_config(**settings)))


def test_one_warning_for_each_streak(make_config: MakeConfig) -> None:
    """Steps 3 and 4 are one streak, 6 another; a step without a trained token ends none."""
    nan = math.nan
    assert [3, 7] == list(watched(make_config(), [1e-6, 1e-6, 0.4, nan, 0.4, 1e-6, math.inf]))


def test_a_gap_that_outlives_old_weights_is_told(make_config: MakeConfig) -> None:
    """Step 2 is sampled with old weights; from step 3 on their number is right again, and they are still others."""
    said = watched(make_config(), [1e-7, 0.4, 0.4, 0.4, 0.4], versions=[0, 0, 2, 3, 4])

    assert [2, 3] == list(said)
    assert "expected those after step 1" in said[2]
    assert "sampler and trainer differ by 0.4 nats a token" in said[3]


def test_a_gap_within_the_precision_is_no_news(make_config: MakeConfig) -> None:
    """bfloat16 explains what float32 does not."""
    gaps = [0.02, 0.1]
    assert {} == watched(make_config(policy={"dtype": "bfloat16"}), gaps)
    assert [1] == list(watched(make_config(), gaps))


@pytest.mark.parametrize(
    ("dtype", "usual", "expected"),
    [
        ("float32", [1e-7], 1e-5),  # five times that is below what is ever news
        ("float32", [1e-5, 4e-5, 9e-5], 2e-4),
        ("float32", [9e-4], 1e-3),  # five times that is beyond what the precision explains
        ("bfloat16", [0.004], 0.03),
        ("bfloat16", [0.010, 0.012, 0.02, 0.011], 0.0575),  # the median lies between 0.011 and 0.012
        ("bfloat16", [0.05], 0.1),
    ],
)
def test_what_the_first_steps_explain(make_config: MakeConfig, dtype: str, usual: list[float], expected: float) -> None:
    """Five times their median, within the bounds of the precision."""
    assert expected == pytest.approx(explained_gap(make_config(policy={"dtype": dtype}), usual))


def test_a_gap_that_grows_within_the_precision_is_news(make_config: MakeConfig) -> None:
    """0.015 at first in bfloat16, so 0.075 has another reason, though the precision alone would explain 0.1."""
    gaps = [0.015, 0.014, 0.016, 0.015, 0.017, 0.04, 0.06, 0.076, 0.09]
    said = watched(make_config(policy={"dtype": "bfloat16"}), gaps)
    assert [8] == list(said)
    assert "differ by 0.076 nats a token" in said[8]
    assert "the first steps and bfloat16 explain 0.075" in said[8]


def test_lost_pushes_are_news_though_bfloat16_hides_them(make_config: MakeConfig) -> None:
    """40 steps sampled with version 0, a gap that rises to 0.093: told at once, by the number of the weights."""
    gaps = [0.015 + 0.002 * k for k in range(40)]
    said = watched(make_config(policy={"dtype": "bfloat16"}), gaps, versions=[0] * 40)
    assert [2] == list(said)
    assert "weights after step 0, expected those after step 1; the gap is 0.017 nats a token" in said[2]


def test_old_weights_are_news_where_no_gap_is(make_config: MakeConfig) -> None:
    """Under top_k no gap has a bound, and a step without a trained token has none; each streak is told once."""
    config, nan = make_config(generation={"top_k": 20}), math.nan
    said = watched(config, [1.0, nan, 1.0, 1.0, 1.0], versions=[0, 0, 0, 3, 3])
    assert [2, 5] == list(said)
    assert "no token was trained on" in said[2]


def test_a_streak_goes_on_after_a_resume(make_config: MakeConfig) -> None:
    """It was told before the break; what was usual then is still known."""
    config, watch = make_config(), MismatchWatch()
    reports = [
        StepReport(step=step, metrics={METRIC: gap}, seconds={}, policy_version=version)
        for step, gap, version in [(1, 1e-7, 0), (2, 0.4, 1), (3, 0.4, 2), (4, 0.4, 2), (5, 0.4, 2)]
    ]
    said = []
    for report in reports:
        watch = MismatchWatch.restored(json.loads(json.dumps(watch.state())))
        said.append(watch.warning(report, config))
    assert [False, True, False, True, False] == [warning is not None for warning in said]
    assert "they have agreed before" in str(said[1])
    assert MismatchWatch() == MismatchWatch.restored({})


def test_the_gap_of_old_weights_is_not_the_usual_one(make_config: MakeConfig) -> None:
    """Steps with old weights don't teach what is usual: after them 2e-4 is news in float32."""
    watch = MismatchWatch()
    for step, gap, version in [(1, 1e-7, 0), (2, 1e-4, 0), (3, 1e-4, 0), (4, 1e-4, 0)]:
        watch.warning(StepReport(step=step, metrics={METRIC: gap}, seconds={}, policy_version=version), make_config())
    assert [1e-7] == watch.usual


def test_the_reason_fits_what_was_seen(make_config: MakeConfig) -> None:
    """Old weights by their number, weights that were never right, weights that were right once."""
    config = make_config()
    (old,) = watched(config, [1e-6, 1e-6, 0.4], versions=[0, 1, 1]).values()
    (never,) = watched(config, [0.4, 0.4]).values()
    (once,) = watched(config, [1e-6, 0.4]).values()
    assert "weights after step 1, expected those after step 2" in old
    assert "a head tied to the embedding" in never
    assert "stale weights" in once
    gap = "sampler and trainer differ by 0.4 nats a token (mismatch/logprob_abs_mean)"
    assert never.startswith(f"step 1: {gap}, float32 explains 0.001: ")
    assert once.startswith(f"step 2: {gap}, the first steps and float32 explain 1e-05: ")


def test_the_warning_names_metric_and_limit(make_config: MakeConfig) -> None:
    """So that a reader of the records need not parse words."""
    report = StepReport(step=1, metrics={METRIC: 1.0}, seconds={}, policy_version=0)
    warning = MismatchWatch().warning(report, make_config())
    assert warning is not None
    assert (METRIC, 1e-3) == (warning["metric"], warning["limit"])
