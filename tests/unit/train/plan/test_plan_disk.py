"""Checkpoint bytes, and what is free for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orz_train.config.checkpoint_size import num_saves
from orz_train.config.load import load
from orz_train.config.model_shapes import ModelShape, find_shape
from orz_train.config.schema import Config
from orz_train.plan import disk
from orz_train.plan.disk import free_bytes, plan_disk

pytestmark = pytest.mark.unit

Make = Callable[..., Config]


@pytest.mark.parametrize(("steps", "every", "saves"), [(10, 50, 1), (10, 3, 4), (10, 5, 2), (1, 1, 1), (8900, 50, 178)])
def test_saves_include_the_last_step(steps: int, every: int, saves: int) -> None:
    """One every so many steps, and one after the last, which may be the same."""
    assert saves == num_saves(steps, every)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (3872, 3584, 14_912)),
        ({"backend": "local"}, (3872, 3584, 14_912)),
        ({"policy__dtype": "bfloat16", "critic__dtype": "bfloat16"}, (1936, 1792, 12 * (968 + 896))),
        ({"algorithm": "grpo", "critic": None}, (3872, 0, 7744)),
    ],
)
def test_a_checkpoint_has_policy_critic_and_state(
    planned: Make, shape: ModelShape, tmp_path: Path, changes: dict[str, object], expected: tuple[int, int, int]
) -> None:
    """Weights in their dtype; moments of 8 bytes a parameter, and a master copy of 4 more with bfloat16."""
    usage = plan_disk(planned(**changes), shape, shape, steps=10, folder=tmp_path)
    assert expected == (usage.policy, usage.critic, usage.state)
    assert sum(expected) == usage.checkpoint == usage.needed


@pytest.mark.parametrize(("keep", "kept"), [(None, 4), (1, 2), (2, 3), (3, 4), (9, 4)])
def test_keeping_k_takes_room_for_one_more(
    planned: Make, shape: ModelShape, tmp_path: Path, keep: int | None, kept: int
) -> None:
    """The oldest goes when the newest is complete, so k + 1 lie there for a moment, but never more than there are."""
    config = planned(checkpoint={"every_steps": 3, "keep": keep})
    usage = plan_disk(config, shape, shape, steps=10, folder=tmp_path)
    assert (4, kept, kept * 22_368) == (usage.saves, usage.kept, usage.needed)


def test_unknown_length_leaves_the_sum_open(planned: Make, shape: ModelShape, tmp_path: Path) -> None:
    """Without steps nobody knows how many; with keep it doesn't matter."""
    usage = plan_disk(planned(), shape, shape, steps=None, folder=tmp_path)
    assert (None, None, None) == (usage.saves, usage.kept, usage.needed)
    assert 3 == plan_disk(planned(checkpoint__keep=2), shape, shape, steps=None, folder=tmp_path).kept


def test_free_bytes_are_of_the_disk_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run folder that doesn't exist yet has the room of the nearest folder that does."""
    asked = []

    class _Usage:
        free = 123

    def usage(place: Path) -> _Usage:
        asked.append(place)
        return _Usage()

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    assert 123 == free_bytes(tmp_path / "runs" / "new")
    assert [tmp_path] == asked


def test_a_disk_that_can_t_be_asked_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No guess where the system refuses."""

    def refuse(_place: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(disk.shutil, "disk_usage", refuse)
    assert free_bytes(tmp_path) is None


def test_orz_7b_weights_have_the_known_size(tmp_path: Path) -> None:
    """15.2 GB of policy and 14.1 GB of critic in bfloat16 (orz.md 3.1), 178 saves in 20 episodes."""
    shape = find_shape("Qwen/Qwen2.5-7B")
    assert shape is not None
    usage = plan_disk(load("orz-7b-ppo").config, shape, shape, steps=8900, folder=tmp_path)
    assert (15.2, 14.1, 178) == (round(usage.policy / 1e9, 1), round(usage.critic / 1e9, 1), usage.saves)
