"""GAE, group advantages and whitening, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from orz_train.algo.advantages import gae, group_advantages, whiten

pytestmark = pytest.mark.unit

NAN = float("nan")


def close(expected: list[float], actual: Tensor, tolerance: float = 1e-6) -> None:
    assert actual.is_floating_point()
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), rtol=0, atol=tolerance)


def run_gae(
    rewards: list[float],
    values: list[float] | None,
    segments: list[int],
    gamma: float,
    lam: float,
    bootstrap: list[float] | None = None,
) -> tuple[Tensor, Tensor]:
    return gae(
        torch.tensor(rewards, dtype=torch.float32),
        None if values is None else torch.tensor(values, dtype=torch.float32),
        torch.tensor(segments, dtype=torch.int64),
        gamma=gamma,
        lam=lam,
        bootstrap_values_S=None if bootstrap is None else torch.tensor(bootstrap),
    )


# One sequence of three actions, reward 1 at its end, values (0.5, 0.6, 0.8).


def test_gae_without_discount_is_return_minus_value() -> None:
    """Gamma = lambda = 1: delta = (0.6 - 0.5, 0.8 - 0.6, 1 - 0.8) = (0.1, 0.2, 0.2).

    A2 = 0.2; A1 = 0.2 + 0.2 = 0.4; A0 = 0.1 + 0.4 = 0.5. R = A + V = (1, 1, 1), the Monte-Carlo return.
    """
    advantages_K, returns_K = run_gae([0, 0, 1], [0.5, 0.6, 0.8], [0, 0, 0], 1.0, 1.0)
    close([0.5, 0.4, 0.2], advantages_K)
    close([1.0, 1.0, 1.0], returns_K)


def test_gae_with_gamma_and_lambda() -> None:
    """Gamma = 0.9, lambda = 0.5: delta = (0.54 - 0.5, 0.72 - 0.6, 1 - 0.8) = (0.04, 0.12, 0.2).

    A2 = 0.2; A1 = 0.12 + 0.45 * 0.2 = 0.21; A0 = 0.04 + 0.45 * 0.21 = 0.1345. R = (0.6345, 0.81, 1).
    """
    advantages_K, returns_K = run_gae([0, 0, 1], [0.5, 0.6, 0.8], [0, 0, 0], 0.9, 0.5)
    close([0.1345, 0.21, 0.2], advantages_K)
    close([0.6345, 0.81, 1.0], returns_K)


def test_gae_with_lambda_zero_is_the_one_step_error() -> None:
    """Lambda = 0, gamma = 0.9: A = delta = (0.04, 0.12, 0.2), R = r + gamma * V_next = (0.54, 0.72, 1)."""
    advantages_K, returns_K = run_gae([0, 0, 1], [0.5, 0.6, 0.8], [0, 0, 0], 0.9, 0.0)
    close([0.04, 0.12, 0.2], advantages_K)
    close([0.54, 0.72, 1.0], returns_K)


def test_gae_with_gamma_zero_sees_only_its_own_reward() -> None:
    """Gamma = 0: A = r - V = (-0.5, -0.6, 0.2), R = r."""
    advantages_K, returns_K = run_gae([0, 0, 1], [0.5, 0.6, 0.8], [0, 0, 0], 0.0, 1.0)
    close([-0.5, -0.6, 0.2], advantages_K)
    close([0.0, 0.0, 1.0], returns_K)


def test_rewards_at_every_action_add_up() -> None:
    """A KL penalty pays at each action: r = (-0.1, -0.2, 1), no values, gamma 0.5, lambda 1.

    A2 = 1; A1 = -0.2 + 0.5 = 0.3; A0 = -0.1 + 0.15 = 0.05.
    """
    advantages_K, returns_K = run_gae([-0.1, -0.2, 1], None, [0, 0, 0], 0.5, 1.0)
    close([0.05, 0.3, 1.0], advantages_K)
    close([0.05, 0.3, 1.0], returns_K)


def test_no_values_counts_as_values_of_zero() -> None:
    without = run_gae([0, 0.5, 1], None, [0, 0, 0], 0.9, 0.5)
    zeros = run_gae([0, 0.5, 1], [0, 0, 0], [0, 0, 0], 0.9, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(zeros, without, strict=True))


def test_gae_stops_at_the_border_of_packed_sequences() -> None:
    """Sequences 0 and 1 in one row, gamma = lambda = 1.

    Sequence 0: delta = (0.5 - 0.5, 1 - 0.5) = (0, 0.5), A = (0.5, 0.5).
    Sequence 1: delta = (1 - 1, 2 - 1) = (0, 1), A = (1, 1). Nothing of it reaches sequence 0.
    """
    advantages_K, returns_K = run_gae([0, 1, 0, 2], [0.5, 0.5, 1, 1], [0, 0, 1, 1], 1.0, 1.0)
    close([0.5, 0.5, 1.0, 1.0], advantages_K)
    close([1.0, 1.0, 2.0, 2.0], returns_K)


def test_packed_sequences_give_bit_for_bit_what_they_give_alone() -> None:
    """Row size and neighbours never change an advantage, not by one rounding."""
    generator = torch.Generator().manual_seed(0)
    lengths = [1, 7, 2, 16, 1, 33]
    rewards = [torch.randn(length, generator=generator) for length in lengths]
    values = [torch.randn(length, generator=generator) for length in lengths]
    boots = torch.randn(len(lengths), generator=generator)
    segments_K = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    packed = gae(torch.cat(rewards), torch.cat(values), segments_K, gamma=0.99, lam=0.95, bootstrap_values_S=boots)
    alone = [
        gae(r, v, torch.zeros(len(r), dtype=torch.int64), gamma=0.99, lam=0.95, bootstrap_values_S=boot[None])
        for r, v, boot in zip(rewards, values, boots, strict=True)
    ]
    assert torch.equal(torch.cat([advantages for advantages, _ in alone]), packed[0])
    assert torch.equal(torch.cat([returns for _, returns in alone]), packed[1])


def test_bootstrap_stands_for_what_would_have_followed() -> None:
    """Truncated after two actions, V after the last token 0.7; gamma 0.9, lambda 1, V = (0.5, 0.6).

    delta = (0.54 - 0.5, 0.63 - 0.6) = (0.04, 0.03); A1 = 0.03; A0 = 0.04 + 0.9 * 0.03 = 0.067.
    R0 = 0.567 = 0.9^2 * 0.7 and R1 = 0.63 = 0.9 * 0.7: the bootstrap value, discounted.
    """
    advantages_K, returns_K = run_gae([0, 0], [0.5, 0.6], [0, 0], 0.9, 1.0, [0.7])
    close([0.067, 0.03], advantages_K)
    close([0.567, 0.63], returns_K)


def test_bootstrap_values_belong_to_their_sequences() -> None:
    """Of three sequences the first ended (0), the second has no action, the third was cut at V = 0.4; gamma 1."""
    _, returns_K = run_gae([1, 0, 0], [0.3, 0.2, 0.1], [0, 2, 2], 1.0, 1.0, [0.0, 9.0, 0.4])
    close([1.0, 0.4, 0.4], returns_K)


def test_a_sequence_of_one_action() -> None:
    """A = r - V, whatever gamma and lambda."""
    advantages_K, returns_K = run_gae([1, 2], [0.25, 0.5], [0, 1], 0.9, 0.5)
    close([0.75, 1.5], advantages_K)
    close([1.0, 2.0], returns_K)


def test_a_row_without_actions_gives_nothing() -> None:
    advantages_K, returns_K = run_gae([], [], [], 0.9, 0.5, [0.7])
    assert advantages_K.shape == returns_K.shape == (0,)


def test_gae_over_thirty_thousand_tokens_keeps_equal_returns_equal() -> None:
    """Gamma = lambda = 1 and reward 1: every return is 1 to the bit, however the values wander."""
    values_K = 5 * torch.rand(32768, generator=torch.Generator().manual_seed(0))
    rewards_K = torch.zeros(32768)
    rewards_K[-1] = 1
    _, returns_K = gae(rewards_K, values_K, torch.zeros(32768, dtype=torch.int64), gamma=1.0, lam=1.0)
    assert torch.equal(torch.ones(32768), returns_K)
    assert returns_K.dtype == torch.float32


def test_a_value_of_nan_stays_nan() -> None:
    """A broken critic must show, not turn into a number."""
    advantages_K, _ = run_gae([0, 1], [NAN, 0.5], [0, 0], 1.0, 1.0)
    assert advantages_K.isnan().tolist() == [True, False]


@pytest.mark.parametrize(("num_rewards", "num_values", "num_segments"), [(2, 3, 2), (2, 2, 3), (3, 2, 2)])
def test_gae_refuses_unequal_lengths(num_rewards: int, num_values: int, num_segments: int) -> None:
    with pytest.raises(ValueError, match="one-dimensional and alike"):
        run_gae([0.0] * num_rewards, [0.0] * num_values, [0] * num_segments, 1.0, 1.0)


def test_gae_refuses_whole_numbers() -> None:
    """Advantages would come back cut to whole numbers."""
    with pytest.raises(ValueError, match="must be floats"):
        gae(torch.tensor([0, 1]), torch.tensor([0.5, 0.5]), torch.zeros(2, dtype=torch.int64), gamma=1.0, lam=1.0)


def test_gae_refuses_two_dimensions() -> None:
    with pytest.raises(ValueError, match="one-dimensional and alike"):
        gae(torch.ones(2, 2), None, torch.zeros(2, 2, dtype=torch.int64), gamma=1.0, lam=1.0)


# --- group advantages -----------------------------------------------------------------------------


def run_group(
    rewards: list[float],
    *,
    valid: list[bool] | None = None,
    groups: list[int] | None = None,
    normalize_std: bool = True,
) -> Tensor:
    return group_advantages(
        torch.tensor(rewards, dtype=torch.float64),
        torch.tensor(valid if valid is not None else [True] * len(rewards), dtype=torch.bool),
        torch.tensor(groups if groups is not None else [0] * len(rewards), dtype=torch.int64),
        normalize_std=normalize_std,
    )


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        # mean 1/2, squares 2 * 1/4, std sqrt(1/2 / 1)
        ([1, 0], [math.sqrt(0.5), -math.sqrt(0.5)]),
        # mean 1/2, squares 4 * 1/4, std sqrt(1 / 3); 0.5 / sqrt(1/3) = sqrt(3) / 2
        ([1, 1, 0, 0], [math.sqrt(3) / 2, math.sqrt(3) / 2, -math.sqrt(3) / 2, -math.sqrt(3) / 2]),
        # mean 1/4, squares 9/16 + 3/16, std sqrt(3/4 / 3) = 1/2
        ([1, 0, 0, 0], [1.5, -0.5, -0.5, -0.5]),
        # mean 2, squares 1 + 0 + 1, std 1
        ([1, 2, 3], [-1, 0, 1]),
        # all the same: no signal, not 0 / 0
        ([1, 1, 1], [0, 0, 0]),
        ([0, 0], [0, 0]),
        # a group of one has no baseline; its raw reward must not leak through
        ([1], [0]),
    ],
)
def test_group_advantages_with_bessels_correction(rewards: list[float], expected: list[float]) -> None:
    """The golden table: (r - mean) / std, std over n - 1."""
    close(expected, run_group(rewards), 1e-12)


def test_the_division_by_std_really_happens() -> None:
    """ORZ's `if std := np.std(x) > 0` bound a bool, so that (1, 1, 0, 0) gave halves with normalisation on."""
    close([0.5, 0.5, -0.5, -0.5], run_group([1, 1, 0, 0], normalize_std=False), 1e-12)
    assert pytest.approx(float(run_group([1, 1, 0, 0])[0]), abs=1e-3) == 0.866


def test_an_invalid_reward_leaves_the_baseline() -> None:
    """Group (1, NaN, 0) with the NaN invalid is the group (1, 0) and a 0."""
    close([math.sqrt(0.5), 0, -math.sqrt(0.5)], run_group([1, NAN, 0], valid=[True, False, True]), 1e-12)


@pytest.mark.parametrize("junk", [NAN, math.inf, 1e30, 0.0])
def test_what_an_invalid_reward_holds_does_not_matter(junk: float) -> None:
    close([1.5, -0.5, -0.5, -0.5, 0], run_group([1, 0, 0, 0, junk], valid=[True] * 4 + [False]), 1e-12)


def test_one_valid_reward_is_no_group() -> None:
    close([0, 0, 0], run_group([1, 0, 0], valid=[True, False, False]))


def test_a_group_of_invalid_rewards_is_zero() -> None:
    close(
        [0, 0, 1 / math.sqrt(2), -1 / math.sqrt(2)],
        run_group([NAN, NAN, 1, 0], valid=[False, False, True, True], groups=[0, 0, 1, 1]),
        1e-12,
    )


@pytest.mark.parametrize("normalize_std", [True, False])
@pytest.mark.parametrize("size", [1.0, 0.0, 1000.0])
def test_rewards_equal_up_to_float_noise_are_equal(size: float, *, normalize_std: bool) -> None:
    """Dividing noise by its own spread would give advantages of 1 out of nothing."""
    noisy = [size, size + 1e-9, size - 1e-9, size]
    close([0.0] * 4, run_group(noisy, normalize_std=normalize_std), 0.0)


def test_float32_noise_of_equal_sums_is_no_signal() -> None:
    """0.1 + 0.2 is not 0.3 in f32 either."""
    rewards_N = torch.tensor([0.1, 0.3]) + torch.tensor([0.2, 0.0])
    rewards_N[0] = rewards_N[0].nextafter(torch.tensor(1.0))
    assert rewards_N[0] != rewards_N[1]
    actual = group_advantages(
        rewards_N, torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64), normalize_std=True
    )
    assert actual.tolist() == [0.0, 0.0]


def test_small_differences_of_large_rewards_count() -> None:
    """(1000, 1001) differ by more than noise."""
    close([-math.sqrt(0.5), math.sqrt(0.5)], run_group([1000, 1001]), 1e-9)


def test_groups_are_apart_however_their_members_lie() -> None:
    """Groups 0 = (1, 0), 2 = (5, 3), interleaved; nobody has index 1."""
    close([0.5, 1.0, -0.5, -1.0], run_group([1, 5, 0, 3], groups=[0, 2, 0, 2], normalize_std=False), 1e-12)


def test_advantages_follow_their_rewards_under_permutation() -> None:
    """Rollouts arrive in any order; each keeps its own advantage."""
    rewards = [1, 0, 0.5, 2, 2, 7, 0, 0.25]
    groups = [0, 0, 0, 1, 1, 1, 2, 2]
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    straight = run_group(rewards, groups=groups)
    permuted = run_group([rewards[i] for i in order], groups=[groups[i] for i in order])
    torch.testing.assert_close(permuted, straight[torch.tensor(order)], rtol=0, atol=1e-12)


def test_group_advantages_of_nothing() -> None:
    assert run_group([]).shape == (0,)


@pytest.mark.parametrize(("num_rewards", "num_valid", "num_groups"), [(2, 3, 2), (2, 2, 3)])
def test_group_advantages_refuse_unequal_lengths(num_rewards: int, num_valid: int, num_groups: int) -> None:
    with pytest.raises(ValueError, match="one-dimensional and alike"):
        run_group([0.0] * num_rewards, valid=[True] * num_valid, groups=[0] * num_groups)


# --- whitening ------------------------------------------------------------------------------------


def test_whiten_worked_by_hand() -> None:
    """(1, 2, 3, 4): mean 2.5, squares 2 * 2.25 + 2 * 0.25 = 5, std sqrt(5 / 4); population, not n - 1."""
    std = math.sqrt(1.25)
    close([-1.5 / std, -0.5 / std, 0.5 / std, 1.5 / std], whiten(torch.tensor([1.0, 2.0, 3.0, 4.0])))


def test_whitened_numbers_have_mean_zero_and_std_one() -> None:
    x_K = 3 + 7 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    whitened = whiten(x_K).double()
    assert pytest.approx(float(whitened.mean()), abs=1e-6) == 0.0
    assert pytest.approx(float(whitened.std(correction=0)), abs=1e-6) == 1.0


def test_whitening_rows_apart_is_another_number() -> None:
    """Why it takes all action tokens of a step: (0, 0) and (1, 1) alone are constants."""
    close([-1.0, -1.0, 1.0, 1.0], whiten(torch.tensor([0.0, 0.0, 1.0, 1.0])))
    close([0.0, 0.0], whiten(torch.tensor([1.0, 1.0])))


@pytest.mark.parametrize("values", [[0.7] * 5, [0.7, 0.7 + 1e-8, 0.7], [1e6, 1e6 + 0.0625], [3.0], [0.0, 0.0]])
def test_whitening_a_constant_gives_zero(values: list[float]) -> None:
    """Up to float noise of their size; never 0 / 0."""
    assert [0.0] * len(values) == whiten(torch.tensor(values)).tolist()


def test_whitening_nothing_gives_nothing() -> None:
    assert whiten(torch.zeros(0)).shape == (0,)


def test_whitening_keeps_the_dtype() -> None:
    assert whiten(torch.tensor([1.0, 2.0])).dtype == torch.float32
