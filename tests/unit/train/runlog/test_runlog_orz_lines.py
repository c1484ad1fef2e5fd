from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable

import pytest

from orz_train.runlog import orz_lines
from orz_train.types import StepReport

pytestmark = pytest.mark.unit


def test_the_actor_bar_has_the_keys_and_numbers_of_orz(make_report: Callable[..., StepReport]) -> None:
    """One update in half a second; `ret` is the true mean return, `kl` 0 without a reference."""
    assert (
        "Actor Train epoch [1/1]: 100%|██████████| 1/1 [00:00<00:00,  2.00it/s, "
        "pg=-0.0013, ret=0.5, glen=812, tlen=1.23e+3, kl=0, act_lr=1e-6, ent=0.457]"
    ) == orz_lines.actor_bar(make_report(1), epochs=1)


def test_the_kl_of_the_bar_is_to_the_reference(make_report: Callable[..., StepReport]) -> None:
    """With a reference model its KL is shown, not the one to the old policy."""
    report = make_report(1, metrics={"policy/kl_ref": 0.0827, "policy/kl_old": 0.5})
    assert "kl=0.0827" in orz_lines.actor_bar(report, epochs=1)


def test_the_critic_bar_has_the_keys_and_numbers_of_orz(make_report: Callable[..., StepReport]) -> None:
    """Twelve updates in six seconds, two passes."""
    assert (
        "Critic Train epoch [2/2]: 100%|██████████| 12/12 [00:06<00:00,  2.00it/s, "
        "critic_loss=0.125, values=0.25, critic_lr=5e-6]"
    ) == orz_lines.critic_bar(make_report(1), epochs=2)


def test_a_model_that_is_not_trained_has_no_bar(make_report: Callable[..., StepReport]) -> None:
    """GRPO has no critic; a frozen policy has no updates, and ORZ's status is `None` then."""
    report = make_report(1, metrics={"critic/loss": None, "critic/updates": None, "policy/updates": 0.0})
    assert ["", "", "None"] == [
        orz_lines.critic_bar(report, epochs=1),
        orz_lines.actor_bar(report, epochs=1),
        orz_lines.status(report),
    ]


def test_the_status_reads_back_as_a_dictionary(make_report: Callable[..., StepReport]) -> None:
    """Keys of ORZ with full precision, as Python writes them."""
    assert {
        "policy_loss": -0.0013,
        "actor_lr": 1e-6,
        "clip_ratio": 0.0,
        "entropy": 0.457,
        "kl": 0.0,
        "response_length": 812.0,
        "total_length": 1234.5678,
        "return": 0.5,
        "policy_update_steps": 1.0,
    } == ast.literal_eval(orz_lines.status(make_report(1)))


def test_the_rollout_summary_holds_the_mean_reward(make_report: Callable[..., StepReport]) -> None:
    """`avg_custom_rewards` is the reward, `avg_raw_rewards` the return."""
    assert "avg_raw_rewards: 0.0, avg_kl: 0.0, avg_response_length: 812.0, avg_custom_rewards: 0.5" == (
        orz_lines.rollout_summary(make_report(1, metrics={"return/mean": 0.0}).metrics)
    )


def test_an_evaluation_line_ends_with_the_mean_over_sets() -> None:
    """Four digits, commas without spaces."""
    line = orz_lines.evaluation({"math500": 0.75, "aime2024": 0.1})
    assert "math500/accuracy: 0.7500,aime2024/accuracy: 0.1000,eval_accuracy: 0.4250" == line


def test_timers_appear_for_the_phases_that_ran_in_their_order() -> None:
    """Phases that did not run have no line."""
    assert [
        "Generate sequences, time cost: 2.91s",
        "Actor model training, time cost: 0.50s",
    ] == orz_lines.timers({"train_policy": 0.5, "generate": 2.912, "total": 3.5})


def test_the_episode_bar_is_that_of_tqdm() -> None:
    """The line that an ORZ user posted, but for the rate, which tqdm smooths."""
    line = orz_lines.episode_bar(50, num_steps=8900, steps_per_episode=445, elapsed_s=24957.0, num_timed=50)
    assert "Episode [1/20]:  11%|█         | 50/445 [6:55:57<54:46:00, 499.14s/it]" == line


def test_episodes_begin_again_and_the_last_may_be_short() -> None:
    """Step 11 of 14 at 5 steps an episode is the first of four steps of the third episode."""
    line = orz_lines.episode_bar(11, num_steps=14, steps_per_episode=5, elapsed_s=2.0, num_timed=1)
    assert "Episode [3/3]:  25%|██▌       | 1/4 [00:02<00:06,  2.00s/it]" == line


def test_unknown_times_show_as_question_marks() -> None:
    """A report without seconds still gives a line of the same shape."""
    line = orz_lines.bar("Episode [1/1]", 1, 4, None)
    assert "Episode [1/1]:  25%|██▌       | 1/4 [00:00<?, ?it/s]" == line


@pytest.mark.parametrize("done", range(81))
def test_every_bar_fits_the_pattern_that_parsers_know(done: int) -> None:
    """Ten cells, percentage on three places, at every stage."""
    line = orz_lines.bar("Episode [1/1]", done, 80, 3.0 * done)
    assert re.fullmatch(
        r"Episode \[1/1\]: [ \d]{2}\d%\|[█▏▎▍▌▋▊▉ ]{10}\| \d+/80 \[\d\d:\d\d<(\d\d:\d\d|\?), .*(it/s|s/it)\]", line
    )


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("0", 0.0),
        ("812", 812.0),
        ("1.23e+3", 1234.5678),
        ("1234.5", 1234.5),
        ("12345.0", 12345.0),
        ("1e-6", 1e-6),
        ("-0.00123", -0.0012345),
        ("0.0525", 0.05254321),
        ("1e+100", 1e100),
        ("nan", math.nan),
        ("inf", math.inf),
    ],
)
def test_numbers_are_shortened_as_tqdm_does(expected: str, value: float) -> None:
    """Three digits, exponents without leading zeros."""
    assert expected == orz_lines.short(value)
