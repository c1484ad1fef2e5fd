"""Log-probs and entropy of actions: values, gradients, chunks, precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from orz_train.algo.logprobs import action_logprobs, predictor_index
from orz_train.algo.segments import action_index

pytestmark = pytest.mark.unit

INF = math.inf


def run(
    logits_KV: Tensor, actions: list[int], *, temperature: float = 1.0, num_ids: int | None = None, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    return action_logprobs(
        logits_KV,
        torch.tensor(actions, dtype=torch.int64),
        temperature=temperature,
        num_ids=logits_KV.shape[-1] if num_ids is None else num_ids,
        chunk=chunk,
    )


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_token_is_predicted_one_position_before() -> None:
    assert predictor_index(torch.tensor([1, 4, 5])).tolist() == [0, 3, 4]


def test_logprob_and_entropy_by_hand() -> None:
    """P = (1/2, 1/4, 1/4): log p = -log 2 or -log 4, entropy = log 2 / 2 + 2 * log 4 / 4 = 1.5 log 2."""
    logits_KV = torch.tensor([[2.0, 1.0, 1.0], [2.0, 1.0, 1.0]]).log()
    logprobs_K, entropy_K = run(logits_KV, [0, 2])
    torch.testing.assert_close(logprobs_K, torch.tensor([-math.log(2), -math.log(4)]))
    torch.testing.assert_close(entropy_K, torch.full((2,), 1.5 * math.log(2)))


def test_a_constant_added_to_all_logits_changes_nothing() -> None:
    logits_KV = randn(3, 7)
    shifted = run(logits_KV + 50, [0, 3, 6])
    torch.testing.assert_close(shifted, run(logits_KV, [0, 3, 6]), rtol=0, atol=1e-5)


def test_temperature_divides_the_logits() -> None:
    """Weights (1, 4) at temperature 2 are (1, 2): p = (1/3, 2/3)."""
    logprobs_K, entropy_K = run(torch.tensor([[1.0, 4.0]]).log(), [0], temperature=2.0)
    assert logprobs_K.item() == pytest.approx(math.log(1 / 3), abs=1e-6)
    assert entropy_K.item() == pytest.approx(math.log(3) / 3 + 2 / 3 * math.log(3 / 2), abs=1e-6)


def test_temperature_does_not_write_into_the_logits() -> None:
    """The caller's tensor is the model's output, and the backward pass needs it."""
    logits_KV = randn(2, 4)
    before = logits_KV.clone()
    run(logits_KV, [0, 1], temperature=0.5)
    assert torch.equal(before, logits_KV)


def test_outputs_beyond_the_tokenizer_get_no_mass() -> None:
    """A padded vocabulary: the third logit is huge, and no sampler ever draws it. p = (1/2, 1/2)."""
    logits_KV = torch.tensor([[0.0, 0.0, 100.0]], requires_grad=True)
    logprobs_K, entropy_K = run(logits_KV, [1], num_ids=2)
    (logprobs_K + entropy_K).sum().backward()
    assert logprobs_K.item() == pytest.approx(-math.log(2))
    assert entropy_K.item() == pytest.approx(math.log(2))
    assert logits_KV.grad is not None
    assert logits_KV.grad[0, 2].item() == 0.0


@pytest.mark.parametrize("action", [2, 5, -1])
def test_an_action_that_the_tokenizer_does_not_know_is_an_error(action: int) -> None:
    """The message names the range; -1 must not read the last id."""
    with pytest.raises(ValueError, match=r"the tokenizer knows the ids 0 to 1"):
        run(torch.zeros(1, 3), [action], num_ids=2)


@pytest.mark.parametrize(("shape", "num_actions"), [((2, 3), 3), ((3, 3), 2), ((6,), 6), ((1, 2, 3), 1)])
def test_shapes_that_disagree_are_an_error(shape: tuple[int, ...], num_actions: int) -> None:
    with pytest.raises(ValueError, match="want logits"):
        run(torch.zeros(shape), [0] * num_actions, num_ids=2)


@pytest.mark.parametrize("chunk", [1, 7, 20, 21, 1024])
def test_chunks_change_neither_values_nor_gradients(chunk: int) -> None:
    """20 actions in pieces of 1, 7, 20 and more, against torch's own log-softmax over all at once."""
    actions = [k % 11 for k in range(20)]
    coefficients_K = randn(20, seed=1)

    whole_KV = randn(20, 11).requires_grad_()
    logp_KV = torch.log_softmax(whole_KV / 0.7, -1)
    expected_logprobs_K = logp_KV[torch.arange(20), torch.tensor(actions)]
    expected_entropy_K = -(logp_KV.exp() * logp_KV).sum(-1)
    (coefficients_K * (expected_logprobs_K + 0.3 * expected_entropy_K)).sum().backward()

    logits_KV = randn(20, 11).requires_grad_()
    logprobs_K, entropy_K = run(logits_KV, actions, temperature=0.7, chunk=chunk)
    (coefficients_K * (logprobs_K + 0.3 * entropy_K)).sum().backward()

    torch.testing.assert_close(logprobs_K, expected_logprobs_K, rtol=0, atol=1e-6)
    torch.testing.assert_close(entropy_K, expected_entropy_K, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits_KV.grad, whole_KV.grad, rtol=0, atol=1e-6)


def test_values_are_the_same_with_and_without_gradient() -> None:
    """Old log-probs come without, new ones with: on policy the ratio is 1 to the bit."""
    logits_KV = randn(9, 13)
    actions = [k % 13 for k in range(9)]
    without = run(logits_KV, actions, chunk=4)
    with_gradient = run(logits_KV.clone().requires_grad_(), actions, chunk=4)
    assert all(torch.equal(a, b) for a, b in zip(without, with_gradient, strict=True))


def test_a_position_gets_the_same_value_in_any_company() -> None:
    """Which other tokens share the call, or its chunk, changes no bit."""
    logits_KV = randn(9, 13)
    alone = torch.cat([run(logits_KV[k : k + 1], [k])[0] for k in range(9)])
    assert torch.equal(alone, run(logits_KV, list(range(9)))[0])


def test_gradient_of_the_logprob_is_onehot_minus_softmax() -> None:
    """For p = (1/2, 1/4, 1/4) and action 1 at temperature 2: ((0, 1, 0) - p') / 2, p' = p^(1/2) normalised."""
    logits_KV = torch.tensor([[2.0, 1.0, 1.0]]).log().requires_grad_()
    run(logits_KV, [1], temperature=2.0)[0].sum().backward()
    p = torch.tensor([2.0, 1.0, 1.0]).sqrt()
    torch.testing.assert_close(logits_KV.grad, ((torch.tensor([0.0, 1.0, 0.0]) - p / p.sum()) / 2)[None])


def test_gradient_of_the_entropy_by_finite_differences() -> None:
    """On a 3-token softmax: dH/dz_i = -p_i (log p_i + H), and by central differences in f64."""
    logits_V = torch.tensor([0.3, -1.1, 0.8], dtype=torch.float64)

    def entropy(at_V: Tensor) -> float:
        p_V = at_V.softmax(-1)
        return -float((p_V * p_V.log()).sum())

    numeric = [
        (entropy(logits_V + 1e-5 * unit_V) - entropy(logits_V - 1e-5 * unit_V)) / 2e-5
        for unit_V in torch.eye(3, dtype=torch.float64)
    ]
    logits_KV = logits_V.float()[None].requires_grad_()
    entropy_K = run(logits_KV, [0])[1]
    entropy_K.sum().backward()
    assert logits_KV.grad is not None
    assert entropy_K.item() == pytest.approx(entropy(logits_V), abs=1e-6)
    assert numeric == pytest.approx(logits_KV.grad[0].tolist(), abs=1e-6)


def test_the_entropy_has_a_gradient_that_spreads_mass() -> None:
    """A step along it makes the distribution flatter, not sharper."""
    logits_KV = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
    entropy_K = run(logits_KV, [0])[1]
    entropy_K.sum().backward()
    assert logits_KV.grad is not None
    with torch.no_grad():
        assert run(logits_KV + logits_KV.grad, [0])[1].item() > entropy_K.item()


@pytest.mark.parametrize("impossible", [-INF, -1e30, -200.0])
def test_impossible_tokens_add_no_entropy_and_no_nan(impossible: float) -> None:
    """Of three tokens one can't be: p = (1/2, 1/2, 0), entropy log 2; its gradient is 0, not 0 * inf."""
    logits_KV = torch.tensor([[0.0, 0.0, impossible]], requires_grad=True)
    logprobs_K, entropy_K = run(logits_KV, [1])
    (logprobs_K + entropy_K).sum().backward()
    assert logprobs_K.item() == pytest.approx(-math.log(2))
    assert entropy_K.item() == pytest.approx(math.log(2))
    assert logits_KV.grad is not None
    torch.testing.assert_close(logits_KV.grad, torch.tensor([[-0.5, 0.5, 0.0]]))


def test_a_certain_token_has_logprob_and_entropy_zero() -> None:
    logprobs_K, entropy_K = run(torch.tensor([[-INF, 5.0, -INF]]), [1])
    assert (logprobs_K.item(), entropy_K.item()) == (0.0, 0.0)


def test_bfloat16_logits_lose_nothing_more_over_a_large_vocabulary() -> None:
    """151,936 ids: log-probs within 2e-5 of f64 on the same logits, entropy within 1e-4; bf16 would be 0.01 away."""
    logits_KV = (3 * randn(4, 151_936)).bfloat16()
    actions = [0, 1000, 100_000, 151_935]
    logprobs_K, entropy_K = run(logits_KV, actions)
    exact_KV = torch.log_softmax(logits_KV.double(), -1)
    exact_K = exact_KV[torch.arange(4), torch.tensor(actions)]
    assert logprobs_K.dtype == entropy_K.dtype == torch.float32
    assert float((logprobs_K - exact_K).abs().max()) < 2e-5
    assert float((entropy_K + (exact_KV.exp() * exact_KV).sum(-1)).abs().max()) < 1e-4
    in_bf16_K = torch.log_softmax(logits_KV, -1)[torch.arange(4), torch.tensor(actions)]
    assert float((in_bf16_K - exact_K).abs().max()) > 1e-2


def test_nan_at_positions_that_predict_no_action_stays_out() -> None:
    """Only predictors of actions are gathered: a NaN elsewhere reaches no value, and its logits no gradient."""
    mask_T = torch.tensor([False, False, True, True, False])
    token_ids_T = torch.tensor([4, 0, 2, 1, 3])
    index_K = action_index(mask_T)
    logits_TV = randn(5, 6)
    logits_TV[[0, 3, 4]] = float("nan")
    logits_TV.requires_grad_()
    logprobs_K, entropy_K = run(logits_TV[predictor_index(index_K)], token_ids_T[index_K].tolist())
    (logprobs_K + entropy_K).sum().backward()
    assert torch.isfinite(logprobs_K).all()
    assert torch.isfinite(entropy_K).all()
    assert logits_TV.grad is not None
    assert torch.isfinite(logits_TV.grad[[1, 2]]).all()
    assert logits_TV.grad[[0, 3, 4]].abs().sum().item() == 0.0


def test_a_nan_at_an_action_is_not_hidden() -> None:
    logprobs_K, entropy_K = run(torch.tensor([[0.0, float("nan")], [0.0, 0.0]]), [0, 0])
    assert logprobs_K.isnan().tolist() == [True, False]
    assert entropy_K.isnan().tolist() == [True, False]


def test_no_actions_give_nothing_with_a_graph() -> None:
    """An all-masked row still runs its backward pass."""
    logits_KV = torch.zeros(0, 5, requires_grad=True)
    logprobs_K, entropy_K = run(logits_KV, [])
    (logprobs_K.sum() + entropy_K.sum()).backward()
    assert logprobs_K.shape == entropy_K.shape == (0,)
    assert logits_KV.grad is not None
