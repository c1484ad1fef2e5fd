"""Laws of the maths that hold for any numbers."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orz_train.algo.advantages import gae, group_advantages, whiten
from orz_train.algo.kl import Estimator, kl_estimate
from orz_train.algo.logprobs import action_logprobs
from orz_train.algo.losses import LossReduction, clipped_policy_loss, clipped_value_loss, token_weights
from orz_train.algo.segments import reverse_scan
from orz_train.types import Mean, Metric, reduce_metrics

pytestmark = pytest.mark.property

REDUCTIONS: tuple[LossReduction, ...] = get_args(LossReduction)
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)

numbers = st.floats(-10, 10, allow_subnormal=False)
fractions = st.floats(0, 1, allow_subnormal=False)
eighths = st.integers(-80, 80).map(lambda n: n / 8)
"""Numbers whose sums and differences are exact, so that laws hold to the bit."""
sequences = st.lists(st.integers(0, 6), max_size=12)
"""Action counts of sequences, some without any."""


def cut(draw: st.DrawFn, items: list[int]) -> list[list[int]]:
    """Cut a list into consecutive rows, some of them empty."""
    rows: list[list[int]] = [[]]
    for item in items:
        rows.extend([] for _ in range(draw(st.integers(0, 2))))
        rows[-1].append(item)
    return rows


@st.composite
def scans(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    xs = draw(st.lists(numbers, max_size=70))
    return xs, draw(st.lists(st.sampled_from([0.0, 0.5, 0.9, 1.0]), min_size=len(xs), max_size=len(xs)))


@given(scans())
def test_reverse_scan_is_the_loop(scan: tuple[list[float], list[float]]) -> None:
    """Y = x + decay * y, from the back, one at a time."""
    xs, decays = scan
    expected, y = [0.0] * len(xs), 0.0
    for k in reversed(range(len(xs))):
        y = xs[k] + decays[k] * y
        expected[k] = y
    actual = reverse_scan(torch.tensor(xs, dtype=torch.float64), torch.tensor(decays, dtype=torch.float64))
    assert expected == pytest.approx(actual.tolist(), abs=1e-9)


@given(st.lists(st.lists(eighths, min_size=1, max_size=9), min_size=1, max_size=6), fractions, fractions)
def test_sequences_in_a_row_never_meet(rewards: list[list[float]], gamma: float, lam: float) -> None:
    """GAE of a row is the GAE of its sequences, to the bit, with values and bootstrap values."""
    parts = [torch.tensor(row) for row in rewards]
    values = [part.flip(0) / 2 for part in parts]
    boots_S = torch.tensor([float(len(part)) for part in parts])
    ids_K = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(part) for part in parts]))
    packed = gae(torch.cat(parts), torch.cat(values), ids_K, gamma=gamma, lam=lam, bootstrap_values_S=boots_S)
    for s, (part, value) in enumerate(zip(parts, values, strict=True)):
        zeros_K = torch.zeros(len(part), dtype=torch.int64)
        alone = gae(part, value, zeros_K, gamma=gamma, lam=lam, bootstrap_values_S=boots_S[s : s + 1])
        assert torch.equal(alone[0], packed[0][ids_K == s])
        assert torch.equal(alone[1], packed[1][ids_K == s])


@given(st.lists(eighths, min_size=1, max_size=40), st.lists(eighths, min_size=40, max_size=40), eighths)
def test_without_discount_returns_are_monte_carlo(rewards: list[float], values: list[float], boot: float) -> None:
    """Gamma = lambda = 1: R_k is what follows, bootstrap included, whatever the critic says."""
    rewards_K = torch.tensor(rewards, dtype=torch.float64)
    values_K = torch.tensor(values[: len(rewards)], dtype=torch.float64)
    zeros_K = torch.zeros(len(rewards), dtype=torch.int64)
    boots_S = torch.tensor([boot], dtype=torch.float64)
    _, returns_K = gae(rewards_K, values_K, zeros_K, gamma=1.0, lam=1.0, bootstrap_values_S=boots_S)
    assert [sum(rewards[k:]) + boot for k in range(len(rewards))] == returns_K.tolist()


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[float], list[bool], list[int]]:
    size = draw(st.integers(1, 20))
    lists = [st.lists(of, min_size=size, max_size=size) for of in (eighths, st.booleans(), st.integers(0, 4))]
    rewards, valid, index = (draw(column) for column in lists)
    return rewards, valid, index


@given(groups(), st.booleans(), st.randoms(use_true_random=False), eighths)
def test_group_advantages_follow_permutations_and_ignore_shifts(
    group: tuple[list[float], list[bool], list[int]], normalize_std: bool, random: object, shift: float
) -> None:
    """Order carries nothing, nor does a constant added to every reward, nor what invalid ones hold."""
    rewards, valid, index = group
    order = list(range(len(rewards)))
    random.shuffle(order)  # type: ignore[attr-defined]

    def run(rewards: list[float], valid: list[bool], index: list[int]) -> torch.Tensor:
        columns = torch.tensor(rewards, dtype=torch.float64), torch.tensor(valid), torch.tensor(index)
        return group_advantages(*columns, normalize_std=normalize_std)

    straight = run(rewards, valid, index)
    permuted = run([rewards[i] for i in order], [valid[i] for i in order], [index[i] for i in order])
    junk = [r + shift if ok else math.nan for r, ok in zip(rewards, valid, strict=True)]
    torch.testing.assert_close(permuted, straight[torch.tensor(order)], rtol=0, atol=1e-9)
    torch.testing.assert_close(run(junk, valid, index), straight, rtol=0, atol=1e-9)


@given(groups())
def test_group_advantages_have_mean_zero_and_std_one(group: tuple[list[float], list[bool], list[int]]) -> None:
    """In every group: the valid ones average to 0, and spread by 1 (n - 1) or not at all; the others are 0."""
    rewards, valid, index = group
    advantages = group_advantages(
        torch.tensor(rewards, dtype=torch.float64), torch.tensor(valid), torch.tensor(index), normalize_std=True
    ).tolist()
    assert all(a == 0 for a, ok in zip(advantages, valid, strict=True) if not ok)
    for g in set(index):
        inside = [a for a, ok, i in zip(advantages, valid, index, strict=True) if ok and i == g]
        raw = [r for r, ok, i in zip(rewards, valid, index, strict=True) if ok and i == g]
        assert sum(inside) == pytest.approx(0, abs=1e-9)
        square = sum(a * a for a in inside)
        assert square == pytest.approx(len(inside) - 1 if len(set(raw)) > 1 else 0, abs=1e-9)


@given(st.lists(eighths, min_size=1, max_size=40), eighths, st.sampled_from([0.5, 1.0, 8.0]))
def test_whitening_forgets_shift_and_scale(xs: list[float], shift: float, scale: float) -> None:
    x_K = torch.tensor(xs, dtype=torch.float64)
    torch.testing.assert_close(whiten(scale * x_K + shift), whiten(x_K), rtol=0, atol=1e-9)


@st.composite
def rows_of_sequences(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    lengths = draw(sequences)
    return lengths, cut(draw, lengths)


def as_ids(rows: list[list[int]]) -> list[torch.Tensor]:
    """Write each row's action counts as segment ids; a sequence without actions leaves a gap."""
    return [torch.tensor([s for s, n in enumerate(row) for _ in range(n)], dtype=torch.int32) for row in rows]


@given(rows_of_sequences(), st.sampled_from(REDUCTIONS))
def test_weights_add_up_to_one(case: tuple[list[int], list[list[int]]], reduction: LossReduction) -> None:
    """Or to 0, where no sequence has an action. None is negative."""
    lengths, rows = case
    weights = torch.cat([torch.zeros(0), *token_weights(as_ids(rows), reduction)])
    assert float(weights.double().sum()) == pytest.approx(1.0 if sum(lengths) else 0.0, abs=1e-5)
    assert bool((weights > 0).all())


@given(rows_of_sequences(), st.sampled_from(["token_mean", "sequence_mean"]))
def test_weights_do_not_know_the_rows(case: tuple[list[int], list[list[int]]], reduction: LossReduction) -> None:
    """Any partition into rows gives every token the weight it has in one row of all, to the bit."""
    lengths, rows = case
    together = torch.cat([torch.zeros(0), *token_weights(as_ids([lengths]), reduction)])
    apart = torch.cat([torch.zeros(0), *token_weights(as_ids(rows), reduction)])
    assert torch.equal(together, apart)


ratios = st.floats(0.05, 20)


@given(ratios, numbers, st.floats(0.01, 0.9), st.floats(0.01, 3))
def test_the_clipped_loss_is_a_pessimist(ratio: float, advantage: float, low: float, high: float) -> None:
    """It is never below -ratio * A; it is that, or -A * (1 + high) for a good token, -A * (1 - low) for a bad one."""
    one = torch.ones(1, dtype=torch.float64)
    total, _, binds_K = clipped_policy_loss(
        one * math.log(ratio), 0 * one, one * advantage, one, clip_low=low, clip_high=high
    )
    bound = (1 + high) if advantage > 0 else (1 - low)
    expected = max(-ratio * advantage, -bound * advantage)
    assert total.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    if abs(ratio - bound) > 1e-6 and abs(advantage) > 1e-6:
        assert bool(binds_K.item()) is ((ratio > bound) if advantage > 0 else (ratio < bound))


@given(numbers, numbers, numbers, st.floats(0.01, 3))
def test_the_clipped_value_loss_is_a_pessimist(value: float, old: float, target: float, clip: float) -> None:
    """Never below half the squared error, and equal to it within the clip."""
    one = torch.ones(1, dtype=torch.float64)
    total, _, binds_K = clipped_value_loss(one * value, one * old, one * target, one, value_clip=clip)
    plain = (value - target) ** 2 / 2
    assert total.item() >= plain - 1e-12
    if abs(value - old) < clip - 1e-9:
        assert total.item() == pytest.approx(plain)
        assert not binds_K.item()


@given(st.floats(-30, 0), st.floats(-30, 0))
def test_estimators_agree_for_policies_that_almost_agree(logprob: float, ref: float) -> None:
    """k2 and k3 are never negative, and k1 changes sign with the order."""
    p, q = torch.tensor([logprob]), torch.tensor([ref])
    assert kl_estimate(p, q, "k1").item() == -kl_estimate(q, p, "k1").item()
    assert kl_estimate(p, q, "k2").item() >= 0
    assert kl_estimate(p, q, "k3").item() >= 0


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(2, 12), st.floats(0.1, 5), st.integers(1, 12), st.integers(0, 2**31))
def test_logprobs_are_those_of_a_distribution(num: int, vocab: int, temperature: float, chunk: int, seed: int) -> None:
    """Over all tokens the probabilities add up to 1, and the mean of -log p is the entropy, between 0 and log V."""
    logits_KV = 3 * torch.randn(num, vocab, generator=torch.Generator().manual_seed(seed))
    every = [
        action_logprobs(logits_KV, torch.full((num,), v), temperature=temperature, num_ids=vocab, chunk=chunk)
        for v in range(vocab)
    ]
    logp_KV = torch.stack([logprobs_K for logprobs_K, _ in every], dim=1).double()
    entropy_K = every[0][1].double()
    torch.testing.assert_close(logp_KV.exp().sum(-1), torch.ones(num).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(-(logp_KV.exp() * logp_KV).sum(-1), entropy_K, rtol=0, atol=1e-5)
    assert bool((entropy_K >= 0).all())
    assert bool((entropy_K <= math.log(vocab) + 1e-5).all())


@given(st.lists(st.lists(st.integers(-100, 100), max_size=5), max_size=6))
def test_a_metric_does_not_know_the_micro_batches(parts: list[list[int]]) -> None:
    """The mean over any split is the mean over the whole; empty parts weigh nothing."""
    everything = [x for part in parts for x in part]
    values = reduce_metrics([Metric("m", Mean(sum(part), len(part))) for part in parts])
    if everything:
        assert values["m"] == sum(everything) / len(everything)
    else:
        assert all(math.isnan(value) for value in values.values())
