"""The three estimators of KL: values by hand, expectations and gradients by enumeration."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from orz_train.algo.kl import Estimator, kl_estimate

pytestmark = pytest.mark.unit

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
# Two distributions over five tokens, far enough apart that a wrong formula shows in the first digit.
THETA = torch.tensor([0.9, -0.4, 0.3, -1.2, 0.1], dtype=torch.float64)
REF = torch.tensor([0.1, 0.5, -0.3, 0.2, -0.6], dtype=torch.float64)


def exact_kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Return KL(p || q) as its definition says: the sum over tokens of p log(p / q)."""
    p, q = p_logits.softmax(-1), q_logits.softmax(-1)
    return (p * (p / q).log()).sum()


def gradient(loss: Tensor, theta: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(loss, theta)
    return grad


def expected_loss(theta: Tensor, estimator: Estimator, sampler: Tensor | None = None) -> Tensor:
    """Average the estimate over every token, as often as the sampler draws it; the draw itself has no gradient."""
    p = (theta if sampler is None else sampler).softmax(-1).detach()
    return (p * kl_estimate(theta.log_softmax(-1), REF.log_softmax(-1), estimator)).sum()


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("k1", math.log(2)),  # log(1/2) - log(1/4)
        ("k2", math.log(2) ** 2 / 2),
        ("k3", 0.5 - 1 + math.log(2)),  # q/p = 1/2
    ],
)
def test_estimates_of_a_likelier_token(estimator: Estimator, expected: float) -> None:
    """The policy gives 1/2, the reference 1/4: d = log 2."""
    actual = kl_estimate(torch.tensor([0.5]).log(), torch.tensor([0.25]).log(), estimator)
    assert expected == pytest.approx(actual.item(), abs=1e-6)


@pytest.mark.parametrize(("estimator", "expected"), [("k1", -1.0), ("k2", 0.5), ("k3", math.e - 2)])
def test_estimates_of_a_less_likely_token(estimator: Estimator, expected: float) -> None:
    """D = -1: k1 is negative, k3 = e - 1 - 1."""
    actual = kl_estimate(torch.tensor([-2.0]), torch.tensor([-1.0]), estimator)
    assert expected == pytest.approx(actual.item(), abs=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_policies_are_at_distance_zero(estimator: Estimator) -> None:
    logprobs = torch.tensor([-0.1, -3.0, -20.0])
    assert kl_estimate(logprobs, logprobs, estimator).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_k2_and_k3_are_never_negative(estimator: Estimator) -> None:
    """Nor does rounding make them so, however close the policies are."""
    d = torch.cat([torch.linspace(-5, 5, 10_001), torch.logspace(-12, 0, 1000), -torch.logspace(-12, 0, 1000)])
    assert float(kl_estimate(d, torch.zeros_like(d), estimator).min()) >= 0


def test_k3_is_precise_where_policies_almost_agree() -> None:
    """D = 1e-3 in f32: d^2/2 - d^3/6 = 4.99833e-7; exp(-d) - 1 + d taken literally would keep one digit."""
    actual = kl_estimate(torch.tensor([1e-3]), torch.tensor([0.0]), "k3")
    assert actual.item() == pytest.approx(4.99833e-7, rel=1e-3)


def test_estimators_keep_shape_and_dtype() -> None:
    for estimator in ESTIMATORS:
        actual = kl_estimate(torch.zeros(2, 3), torch.zeros(2, 3), estimator)
        assert (actual.shape, actual.dtype) == ((2, 3), torch.float32)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(estimator: Estimator) -> None:
    """Their mean over the policy's own draws is the KL, by enumeration of all five tokens."""
    torch.testing.assert_close(expected_loss(THETA, estimator), exact_kl(THETA, REF), rtol=0, atol=1e-12)


def test_k2_is_biased() -> None:
    """Its mean is another number; only its gradient is right."""
    assert abs(float(expected_loss(THETA, "k2") - exact_kl(THETA, REF))) > 0.01


def test_the_kl_is_policy_to_reference_not_back() -> None:
    """The mean of k1 is KL(policy || reference); the other direction is a number that differs."""
    assert abs(float(exact_kl(THETA, REF) - exact_kl(REF, THETA))) > 0.01
    assert float(expected_loss(THETA, "k1")) == pytest.approx(float(exact_kl(THETA, REF)), abs=1e-12)


def test_k1_as_a_loss_has_no_gradient_on_average() -> None:
    theta = THETA.clone().requires_grad_()
    torch.testing.assert_close(gradient(expected_loss(theta, "k1"), theta), torch.zeros(5).double(), rtol=0, atol=1e-12)


def test_k2_as_a_loss_has_the_gradient_of_the_kl() -> None:
    theta = THETA.clone().requires_grad_()
    expected = gradient(exact_kl(theta, REF), theta)
    torch.testing.assert_close(gradient(expected_loss(theta, "k2"), theta), expected, rtol=0, atol=1e-12)


def test_k3_as_a_loss_has_the_gradient_of_the_forward_kl() -> None:
    """That of KL(reference || policy), which for the KL meant is biased."""
    theta = THETA.clone().requires_grad_()
    actual = gradient(expected_loss(theta, "k3"), theta)
    torch.testing.assert_close(actual, gradient(exact_kl(REF, theta), theta), rtol=0, atol=1e-12)
    assert float((actual - gradient(exact_kl(theta, REF), theta)).abs().max()) > 0.01


def test_k2_is_right_on_policy_only() -> None:
    """Tokens drawn by another policy give another gradient, unless each is weighted by its probability ratio."""
    theta = THETA.clone().requires_grad_()
    expected = gradient(exact_kl(theta, REF), theta)
    off_policy = gradient(expected_loss(theta, "k2", sampler=torch.zeros(5).double()), theta)
    assert float((off_policy - expected).abs().max()) > 0.01


def test_the_gradient_reaches_the_policy_alone() -> None:
    """d/dlogp: k1 1, k2 d, k3 1 - exp(-d); at d = log 2 that is 1, 0.6931, 0.5."""
    for estimator, expected in zip(ESTIMATORS, (1.0, math.log(2), 0.5), strict=True):
        logprobs = torch.tensor([math.log(0.5)], requires_grad=True)
        kl_estimate(logprobs, torch.tensor([math.log(0.25)]), estimator).sum().backward()
        assert logprobs.grad is not None
        assert expected == pytest.approx(logprobs.grad.item(), abs=1e-6)
