"""When a run says that sampler and trainer disagree."""

from __future__ import annotations

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


def test_a_gap_within_the_precision_is_no_news(make_config: MakeConfig) -> None:
    """bfloat16 explains what float32 does not."""
    gaps = [0.02, 0.1]
    assert {} == watched(make_config(policy={"dtype": "bfloat16"}), gaps)
    assert [1] == list(watched(make_config(), gaps))


def test_the_reason_fits_what_was_seen(make_config: MakeConfig) -> None:
    """Old weights by their number, weights that were never right, weights that were right once."""
    config = make_config()
    (old,) = watched(config, [1e-6, 1e-6, 0.4], versions=[0, 1, 1]).values()
    (never,) = watched(config, [0.4, 0.4]).values()
    (once,) = watched(config, [1e-6, 0.4]).values()
    assert "weights after step 1, expected those after step 2" in old
    assert "a head tied to the embedding" in never
    assert "stale weights" in once
    start = "step 2: sampler and trainer differ by 0.4 nats a token (mismatch/logprob_abs_mean), float32 explains 0.001"
    assert once.startswith(start)


def test_the_warning_names_metric_and_limit(make_config: MakeConfig) -> None:
    """So that a reader of the records need not parse words."""
    report = StepReport(step=1, metrics={METRIC: 1.0}, seconds={}, policy_version=0)
    warning = MismatchWatch().warning(report, make_config())
    assert warning is not None
    assert (METRIC, 1e-3) == (warning["metric"], warning["limit"])
