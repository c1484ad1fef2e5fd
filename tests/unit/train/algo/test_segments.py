"""Gathering actions out of rows, and recursions that stop at the borders of sequences."""

from __future__ import annotations

import pytest
import torch

from orz_train.algo.segments import action_index, is_last, reverse_scan, scatter_actions

pytestmark = pytest.mark.unit


def test_action_index_lists_the_positions_of_actions() -> None:
    mask_T = torch.tensor([False, True, True, False, True])
    assert action_index(mask_T).tolist() == [1, 2, 4]


@pytest.mark.parametrize("length", [0, 1, 4])
def test_a_row_without_actions_has_an_empty_index(length: int) -> None:
    """The row that pads a rank, and a row of masked rollouts only."""
    index_K = action_index(torch.zeros(length, dtype=torch.bool))
    assert tuple(index_K.shape) == (0,)
    assert index_K.dtype == torch.int64


def test_an_action_at_the_first_position_is_an_error() -> None:
    """Nothing comes before it; index -1 would read the last token's output instead."""
    with pytest.raises(ValueError, match=r"action_mask_T\[0\]"):
        action_index(torch.tensor([True, True]))


def test_scatter_puts_values_at_actions_and_zero_elsewhere() -> None:
    mask_T = torch.tensor([False, True, False, True])
    assert scatter_actions(torch.tensor([5.0, 7.0]), mask_T).tolist() == [0.0, 5.0, 0.0, 7.0]


def test_scatter_undoes_gather() -> None:
    mask_T = torch.tensor([False, True, False, True, True])
    values_K = torch.tensor([1.5, -2.0, 3.0])
    assert torch.equal(values_K, scatter_actions(values_K, mask_T)[action_index(mask_T)])


def test_scatter_of_nothing_is_zeros() -> None:
    assert scatter_actions(torch.zeros(0), torch.zeros(2, dtype=torch.bool)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("num_values", [1, 3])
def test_scatter_refuses_a_wrong_count(num_values: int) -> None:
    """Surplus values would vanish without a word."""
    with pytest.raises(ValueError, match=r"for 2 action tokens"):
        scatter_actions(torch.ones(num_values), torch.tensor([False, True, True]))


def test_scatter_passes_the_gradient_of_each_action() -> None:
    """d/dx of 1*0 + 2*x0 + 3*0 + 4*x1 is (2, 4)."""
    values_K = torch.tensor([5.0, 7.0], requires_grad=True)
    (scatter_actions(values_K, torch.tensor([False, True, False, True])) * torch.arange(1.0, 5.0)).sum().backward()
    assert values_K.grad is not None
    assert values_K.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([], []),
        ([3], [True]),
        ([0, 0, 0], [False, False, True]),
        ([0, 1, 2], [True, True, True]),
        ([0, 0, 2, 2, 5], [False, True, False, True, True]),
    ],
)
def test_is_last_marks_the_end_of_each_segment(segments: list[int], expected: list[bool]) -> None:
    """Also where ids skip: a sequence whose actions are all masked leaves a gap."""
    assert expected == is_last(torch.tensor(segments, dtype=torch.int32)).tolist()


def test_reverse_scan_worked_by_hand() -> None:
    """y3 = 4; y2 = 3 + 0.5*4 = 5; y1 = 2 + 0*5 = 2; y0 = 1 + 0.5*2 = 2. The decay of 0 at 1 is a border."""
    actual = reverse_scan(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.5, 0.0, 0.5, 0.0]))
    assert actual.tolist() == [2.0, 2.0, 5.0, 4.0]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33])
def test_reverse_scan_of_ones_counts_down(length: int) -> None:
    """With x = decay = 1, y_k = K - k: at every length around the powers of two where passes are added."""
    ones_K = torch.ones(length)
    assert list(range(length, 0, -1)) == reverse_scan(ones_K, ones_K).tolist()


def test_the_last_decay_is_unread() -> None:
    """y_K = 0, so what multiplies it doesn't matter."""
    assert reverse_scan(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 9.0])).tolist() == [3.0, 2.0]


def test_reverse_scan_leaves_its_inputs_alone() -> None:
    x_K, decay_K = torch.ones(5), torch.full((5,), 0.5)
    reverse_scan(x_K, decay_K)
    assert torch.equal(torch.ones(5), x_K)
    assert torch.equal(torch.full((5,), 0.5), decay_K)


@pytest.mark.parametrize(
    ("x", "decay"),
    [
        (torch.ones(3), torch.ones(2)),
        (torch.ones(3), torch.ones(3, dtype=torch.float64)),
        (torch.ones(2, 2), torch.ones(2, 2)),
        (torch.tensor(1.0), torch.tensor(1.0)),
    ],
)
def test_reverse_scan_refuses_other_shapes_and_dtypes(x: torch.Tensor, decay: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="one-dimensional and alike"):
        reverse_scan(x, decay)
