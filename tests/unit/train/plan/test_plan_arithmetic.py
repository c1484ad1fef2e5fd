"""Prompts to optimizer steps, worked by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orz_train.config.load import load
from orz_train.config.schema import Config
from orz_train.plan.arithmetic import Updates, orz_updates, plan_batches

pytestmark = pytest.mark.unit

Make = Callable[..., Config]


def test_rows_follow_from_the_length_of_responses(planned: Make) -> None:
    """Prompts of 10 tokens and responses of 10, 20, 40: 10, 6 and 4 sequences in a row of 200."""
    rows = plan_batches(planned(), ranks=1, critic_ranks=1).rows
    assert [10, 20, 40] == [row.response_tokens for row in rows]
    assert [20, 30, 50] == [row.sequence_tokens for row in rows]
    assert [10, 6, 4] == [row.per_row for row in rows]
    assert [4, 6, 8] == [row.num_rows for row in rows]
    assert [640, 960, 1600] == [row.step_tokens for row in rows]


def test_updates_don_t_depend_on_rows_or_ranks(planned: Make) -> None:
    """The policy takes 1 step on all 32 rollouts, the critic 12 on 32/12 each, whatever the row size."""
    for config, ranks in ((planned(), 1), (planned(packing__max_tokens_per_row=1000), 4)):
        batches = plan_batches(config, ranks=ranks, critic_ranks=ranks)
        policy = Updates(role="policy", per_step=1, rollouts_each=32, in_run=10, warmup_training_steps=0)
        assert policy == batches.policy
        critic = Updates(role="critic", per_step=12, rollouts_each=32 / 12, in_run=120, warmup_training_steps=0)
        assert critic == batches.critic


def test_epochs_multiply_updates_and_freezing_takes_steps_away(planned: Make) -> None:
    """3 updates x 2 epochs are 6 a step; with 4 of 10 steps frozen the policy has 36 and a warm-up of 9 lasts 1.5."""
    config = planned(
        policy__updates_per_step=3,
        policy__epochs_per_step=2,
        policy__freeze_steps=4,
        policy__optimizer={"lr": 1, "warmup_steps": 9},
    )
    expected = Updates(role="policy", per_step=6, rollouts_each=32 / 3, in_run=36, warmup_training_steps=1.5)
    assert expected == plan_batches(config, ranks=1, critic_ranks=1).policy


@pytest.mark.parametrize(
    ("rows", "updates", "expected"),
    [
        (22, 12, (1, 12, 10)),
        (66, 12, (5, 12, 6)),
        (38, 12, (3, 12, 2)),
        (24, 12, (2, 12, 0)),
        (5, 12, (1, 5, 0)),
        (12, 12, (1, 12, 0)),
        (26, 1, (26, 1, 0)),
        (1, 1, (1, 1, 0)),
    ],
)
def test_orz_counts_rows_and_drops_the_rest(rows: int, updates: int, expected: tuple[int, int, int]) -> None:
    """ORZ accumulates max(1, M // U) rows and stops after U steps: of 22 rows 10 are lost (orz.md 1.1)."""
    orz = orz_updates(rows, updates)
    assert expected == (orz.accumulation, orz.optimizer_steps, orz.dropped_rows)


def test_orz_counts_rows_of_one_rank(planned: Make) -> None:
    """8 rows over 3 ranks are 3 a rank for the policy, and 2 over 4 for the critic."""
    row = plan_batches(planned(), ranks=3, critic_ranks=4).rows[-1]
    assert row.orz_critic is not None
    assert (3, 2) == (row.orz_policy.rows_per_rank, row.orz_critic.rows_per_rank)


def test_episodes_need_the_number_of_rows(planned: Make) -> None:
    """Without it the length of the run is unknown; with 20 rows, 2 episodes of 3 steps are 6."""
    unknown = plan_batches(planned(steps=None, episodes=2), ranks=1, critic_ranks=1)
    assert (None, None, None) == (unknown.num_steps, unknown.steps_per_episode, unknown.policy.in_run)
    known = plan_batches(planned(steps=None, episodes=2, data__expected_rows=20), ranks=1, critic_ranks=1)
    assert (6, 3, 6) == (known.num_steps, known.steps_per_episode, known.policy.in_run)


def test_orz_7b_has_the_papers_numbers() -> None:
    """8,192 rollouts a step, 445 steps an episode, 8,900 policy and 106,800 critic updates in 20."""
    batches = plan_batches(load("orz-7b-ppo").config, ranks=32, critic_ranks=32)
    assert batches.critic is not None
    assert (8192, 445, 8900) == (batches.rollouts, batches.steps_per_episode, batches.num_steps)
    assert (8900, 106_800) == (batches.policy.in_run, batches.critic.in_run)
    assert 50 / 12 == batches.critic.warmup_training_steps


def test_no_critic_no_critic_updates(planned: Make) -> None:
    """GRPO has none, in our count and in ORZ's."""
    batches = plan_batches(planned(algorithm="grpo", critic=None), ranks=1, critic_ranks=1)
    assert batches.critic is None
    assert [None, None, None] == [row.orz_critic for row in batches.rows]
