"""The seed of a response."""

from __future__ import annotations

import pytest

from orz_train.backends.vllm.seeds import request_seed

pytestmark = pytest.mark.unit


def test_a_seed_never_changes() -> None:
    """Another process, machine or version gives these too."""
    assert request_seed(42, 1, 0, "train:7", 0) == 8569690187700874610
    assert request_seed(42, 1, 0, "train:7", 1) == 6757494598275501398


def test_seeds_differ_in_everything_that_names_a_response() -> None:
    """Run, step, position, prompt, sample; and fit into 63 bits."""
    seeds = [
        request_seed(seed, step, group_index, prompt_id, sample)
        for seed in (0, 1, 2**63 - 1)
        for step in (0, 1, 11)
        for group_index in (0, 1, 11)
        for prompt_id in ("a", "b", "1")
        for sample in (0, 1, 11)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62
