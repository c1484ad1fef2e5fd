"""One sampled token: which, and with what log-prob."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from orz_train.backends.local.sampling import sample_tokens, uniforms
from orz_train.ports import Sampling

pytestmark = pytest.mark.unit


def sampling(**over: Any) -> Sampling:
    """Make sampling settings."""
    base = {"max_tokens": 4, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "stop": (), "stop_token_ids": ()}
    return Sampling(**{**base, "num_samples": 1, "seed": 7, **over})


P = torch.tensor([0.5, 0.0, 0.25, 0.25])
"""Mass up to each token: 0.5, 0.5, 0.75, 1."""


def draw(u: float, **over: Any) -> tuple[int, float]:
    """Sample one token from P with the uniform number u."""
    tokens_R, logprobs_R = sample_tokens(P.log()[None], torch.tensor([u], dtype=torch.float64), sampling(**over))
    return int(tokens_R), float(logprobs_R)


@pytest.mark.parametrize(
    ("u", "token"), [(0.0, 0), (0.4999, 0), (0.5001, 2), (0.7499, 2), (0.7501, 3), (1 - 2**-53, 3)]
)
def test_token_is_the_inverse_of_the_distribution_function(u: float, token: int) -> None:
    """Token k is drawn where u lies between the mass before it and the mass up to it; one without mass never."""
    assert (token, pytest.approx(float(P[token].log()), abs=1e-6)) == draw(u)


def test_temperature_divides_the_logits() -> None:
    """At temperature 1/2 probabilities are squared and renormalised: 4/6, 0, 1/6, 1/6."""
    assert (0, pytest.approx(math.log(4 / 6), abs=1e-6)) == draw(0.66, temperature=0.5)
    assert (2, pytest.approx(math.log(1 / 6), abs=1e-6)) == draw(0.67, temperature=0.5)


def test_temperature_zero_takes_the_likeliest() -> None:
    """Greedy decoding ignores the uniform number."""
    assert (0, pytest.approx(math.log(0.5), abs=1e-6)) == draw(0.99, temperature=0)


def test_top_k_and_top_p_renormalise_what_they_keep() -> None:
    """Top-k 1 and top-p 0.5 keep the first token alone; top-p 0.6 needs a second."""
    assert (0, pytest.approx(0.0, abs=1e-6)) == draw(0.99, top_k=1)
    assert (0, pytest.approx(0.0, abs=1e-6)) == draw(0.99, top_p=0.5)
    token, logprob = draw(0.99, top_p=0.6)
    assert token in {2, 3}
    assert pytest.approx(math.log(1 / 3), abs=1e-6) == logprob


def test_randomness_is_a_function_of_seed_step_prompt_and_sample() -> None:
    """Equal names give equal numbers; another seed, step, group, prompt or sample gives others."""
    names = [(7, 1, 0, "a", 0), (8, 1, 0, "a", 0), (7, 2, 0, "a", 0), (7, 1, 1, "a", 0), (7, 1, 0, "b", 0)]
    names.append((7, 1, 0, "a", 1))
    drawn = [tuple(uniforms(sampling(seed=seed), *rest)) for seed, *rest in names]
    assert drawn[0] == tuple(uniforms(sampling(), 1, 0, "a", 0))
    assert len(names) == len(set(drawn))
    assert all(0 <= u < 1 for numbers in drawn for u in numbers)
