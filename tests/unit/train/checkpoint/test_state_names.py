"""Names of state files: written in one place and read in the same."""

from __future__ import annotations

import pytest

from orz_train.checkpoint.parts import require_complete, require_own_weights
from orz_train.checkpoint.state_names import SavedBy, in_state_folder, process_state, rank_state, ranks_among
from orz_train.errors import CheckpointError

pytestmark = pytest.mark.unit


def test_the_names_of_runs_that_are_out_there() -> None:
    """Checkpoints of older versions are read by these names: they stay as they are."""
    assert "policy-optimizer.pt" == process_state("policy")
    assert "critic-rank-3-of-16.pt" == rank_state("critic", rank=3, num_ranks=16)


@pytest.mark.parametrize("role", ["policy", "critic", "policy.old"])
def test_a_name_is_read_as_it_was_written(role: str) -> None:
    """In the order of ranks, not of letters; other roles and other files are passed over."""
    names = [rank_state(role, rank=rank, num_ranks=12) for rank in (10, 2, 0)]
    others = [process_state(role), "trainer.json", rank_state("other", rank=1, num_ranks=12), f"{names[0]}.tmp"]
    expected = [SavedBy(rank=rank, num_ranks=12) for rank in (0, 2, 10)]
    assert expected == ranks_among([*names, *others], role)
    assert [] == ranks_among(["policyXold-rank-0-of-1.pt"], "policy.old")


def test_only_the_state_folder_is_looked_at() -> None:
    """Paths are relative to the step folder."""
    assert {"a.pt", "trainer.json"} == in_state_folder(
        ["state/a.pt", "policy/state/b.pt", "state/trainer.json", "c.pt"]
    )


def test_parts_are_counted_by_the_same_names() -> None:
    """One rank of three is missing; then none; then a node has a state without weights."""
    weights = "policy/model.safetensors"
    states = [f"state/{rank_state('policy', rank=rank, num_ranks=3)}" for rank in range(3)]
    with pytest.raises(CheckpointError, match=r"state/policy-rank-1-of-3\.pt didn't arrive"):
        require_complete([weights, states[0], states[2]], ["policy"], where="here")
    require_complete([weights, *states], ["policy"], where="here")
    require_complete([weights, f"state/{process_state('policy')}"], ["policy"], where="here")
    with pytest.raises(CheckpointError, match="node b saved the state of policy, but not its weights"):
        require_own_weights({"a": [weights, states[0]], "b": [states[1]]}, ["policy"])
    require_own_weights({"a": [weights, *states], "b": ["state/trainer.json"]}, ["policy"])
