"""The release gate: how a step is cut into rows, micro-batches and ranks never changes a log-prob or a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from orz_train.backends.local.models import LocalCritic, LocalPolicy
from orz_train.config.schema import Config
from orz_train.data.balancing import balance, masked, minibatches
from orz_train.data.experience import Experience, assemble
from orz_train.data.packing import Packing, pack, unpack
from orz_train.types import Estimates, Rollout, Targets, TrainRow

pytestmark = [pytest.mark.component, pytest.mark.invariance]

Policies = Callable[[Config], LocalPolicy]
Critics = Callable[[Config], LocalCritic]
Configs = Callable[..., Config]

TOLERANCE = 1e-5


def experience_of(rollouts: Sequence[Rollout], policy: LocalPolicy, critic: LocalCritic, max_tokens: int) -> Experience:
    """Estimate a step, with old log-probs and values a little off the present ones, so that ratios aren't 1."""
    packing = Packing(max_tokens=max_tokens)
    rows = pack(rollouts, packing)
    generator = torch.Generator().manual_seed(11)
    noise = [torch.randn(len(rollout.token_ids), 3, generator=generator) for rollout in rollouts]

    def noisy(tensors: Sequence[Tensor], column: int, scale: float) -> list[Tensor]:
        return [
            torch.cat([noise[index][:, column] for index in row.indices_S]) * scale * row.action_mask_T + x_T
            for row, x_T in zip(rows, tensors, strict=True)
        ]

    zeros = [torch.zeros(len(row.token_ids_T)) for row in rows]
    logprobs = noisy(policy.logprobs(rows), 0, 0.3)
    values = noisy([values_T for values_T, _ in critic.values(rows)], 1, 0.3)
    advantages, returns = noisy(zeros, 2, 1.0), noisy(zeros, 1, 1.0)
    estimates = [Estimates(logprobs_T=lp, values_T=v) for lp, v in zip(logprobs, values, strict=True)]
    targets = [Targets(advantages_T=a, returns_T=r) for a, r in zip(advantages, returns, strict=True)]
    return assemble(rollouts, rows, estimates, targets, packing)


def without_actions(row: TrainRow) -> TrainRow:
    """Mask all that a row would train."""
    return replace(row, row=masked(row.row))


def gradient(model: nn.Module) -> dict[str, Tensor]:
    """Take the accumulated gradient off a model."""
    taken = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        taken[name] = parameter.grad.clone()
        parameter.grad = None
    return taken


def assert_same_gradient(expected: dict[str, Tensor], actual: dict[str, Tensor]) -> None:
    """Each parameter's gradient differs by at most 1e-5 of its norm."""
    for name, gradient_of in expected.items():
        difference, norm = float((actual[name] - gradient_of).norm()), float(gradient_of.norm())
        assert difference <= TOLERANCE * norm, f"{name}: relative difference {difference / (norm or 1):.2e}"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_logprobs_and_values_equal_separate_ones(
    rollouts: list[Rollout], config_for: Configs, policy_for: Policies, critic_for: Critics, checkpointing: bool
) -> None:
    """Packed rows give each sequence the log-probs and values it has alone, in eval and in train mode."""
    config = config_for(
        policy={"gradient_checkpointing": checkpointing}, critic={"gradient_checkpointing": checkpointing}
    )
    policy, critic = policy_for(config), critic_for(config)
    alone, together = pack(rollouts, Packing(max_tokens=20)), pack(rollouts, Packing(max_tokens=64))
    single = [pack([rollout], Packing(max_tokens=64))[0] for rollout in rollouts]
    assert len(rollouts) == len(single)
    assert len(together) < len(alone) < len(single)
    for training in (False, True):
        policy.model.train(training)
        critic.model.train(training)
        for rows in (alone, together):
            torch.testing.assert_close(
                unpack(rows, policy.logprobs(rows)), policy.logprobs(single), atol=2e-6, rtol=1e-5
            )
            torch.testing.assert_close(
                unpack(rows, [values_T for values_T, _ in critic.values(rows)]),
                [values_T for values_T, _ in critic.values(single)],
                atol=2e-6,
                rtol=1e-5,
            )


def test_values_after_the_end_belong_to_their_sequence(
    rollouts: list[Rollout], config_for: Configs, critic_for: Critics
) -> None:
    """The bootstrap value of a packed sequence is that of the sequence alone."""
    critic = critic_for(config_for())
    rows = pack(rollouts, Packing(max_tokens=64))
    ends = {
        index: float(end)
        for row, (_, ends_S) in zip(rows, critic.values(rows), strict=True)
        for index, end in zip(row.indices_S, ends_S, strict=True)
    }
    for index, rollout in enumerate(rollouts):
        ((_, alone_S),) = critic.values(pack([rollout], Packing(max_tokens=64)))
        assert float(alone_S) == pytest.approx(ends[index], abs=2e-6)


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("role", ["policy", "critic"])
@pytest.mark.parametrize("num_updates", [1, 8])
def test_rows_never_change_the_gradient(
    rollouts: list[Rollout],
    config_for: Configs,
    policy_for: Policies,
    critic_for: Critics,
    reduction: str,
    checkpointing: bool,
    role: str,
    num_updates: int,
) -> None:
    """Any row size, from one row for all to one for each rollout, gives each update the same gradient."""
    config = config_for(
        loss={"reduction": reduction},
        policy={"gradient_checkpointing": checkpointing},
        critic={"gradient_checkpointing": checkpointing},
    )
    policy, critic = policy_for(config), critic_for(config)
    model = policy if role == "policy" else critic
    experience = experience_of(rollouts, policy, critic, max_tokens=200)
    gradients: list[list[dict[str, Tensor]]] = []
    for max_tokens in (200, 64, 40, 21):
        repacked = replace(experience, packing=Packing(max_tokens=max_tokens))
        of_updates = []
        for samples in minibatches(experience.samples, num_updates, seed=1, step=1):
            model.backward([repacked.pack(samples)])
            of_updates.append(gradient(model.model))
        gradients.append(of_updates)
    for one, other in pairwise(gradients):
        for expected, actual in zip(one, other, strict=True):
            assert_same_gradient(expected, actual)


@pytest.mark.parametrize("role", ["policy", "critic"])
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_and_all_masked_rows_never_change_the_gradient(
    rollouts: list[Rollout],
    config_for: Configs,
    policy_for: Policies,
    critic_for: Critics,
    role: str,
    num_ranks: int,
) -> None:
    """Dealing rows to ranks, with filler rows that have nothing in their mask, leaves the gradient as it was."""
    config = config_for()
    policy, critic = policy_for(config), critic_for(config)
    model = policy if role == "policy" else critic
    experience = experience_of(rollouts, policy, critic, max_tokens=40)
    rows = experience.pack(experience.samples)
    model.backward([rows])
    expected = gradient(model.model)
    shards = balance(rows, num_ranks)
    assert {len(shard) for shard in shards} == {-(-len(rows) // num_ranks)}
    model.backward([*shards, [without_actions(rows[0])]])
    assert_same_gradient(expected, gradient(model.model))


@pytest.mark.parametrize("role", ["policy", "critic"])
def test_a_step_without_actions_has_a_zero_gradient(
    rollouts: list[Rollout], config_for: Configs, policy_for: Policies, critic_for: Critics, role: str
) -> None:
    """A rank whose rows are all masked still runs backward, and adds 0 to every parameter, never NaN."""
    config = config_for()
    policy, critic = policy_for(config), critic_for(config)
    model = policy if role == "policy" else critic
    experience = experience_of(rollouts, policy, critic, max_tokens=200)
    model.backward([[without_actions(row) for row in experience.pack(experience.samples)]])
    for name, gradient_of in gradient(model.model).items():
        assert float(gradient_of.abs().max()) == 0, name


def test_row_mean_does_depend_on_packing(
    rollouts: list[Rollout], config_for: Configs, policy_for: Policies, critic_for: Critics
) -> None:
    """ORZ's reduction weighs rows equally, so another row size is another gradient: the gate can fail."""
    config = config_for(loss={"reduction": "row_mean"})
    policy, critic = policy_for(config), critic_for(config)
    experience = experience_of(rollouts, policy, critic, max_tokens=200)
    policy.backward([experience.pack(experience.samples)])
    expected = gradient(policy.model)
    policy.backward([replace(experience, packing=Packing(max_tokens=21)).pack(experience.samples)])
    with pytest.raises(AssertionError, match="relative difference"):
        assert_same_gradient(expected, gradient(policy.model))


def test_first_update_is_on_policy_and_later_ones_are_not(
    rollouts: list[Rollout], config_for: Configs, policy_for: Policies, critic_for: Critics
) -> None:
    """With old log-probs computed apart: no clipping and no KL to the old policy on the first of 4 updates."""
    config = config_for(policy={"updates_per_step": 4, "optimizer": {"lr": 3e-2}})
    policy = policy_for(config)
    rows = pack(rollouts, Packing(max_tokens=64))
    generator = torch.Generator().manual_seed(2)
    targets = [
        Targets(
            advantages_T=torch.randn(len(row.token_ids_T), generator=generator) * row.action_mask_T,
            returns_T=torch.zeros(len(row.token_ids_T)),
        )
        for row in rows
    ]
    estimates = [Estimates(logprobs_T=logprobs_T) for logprobs_T in policy.logprobs(rows)]
    experience = assemble(rollouts, rows, estimates, targets, Packing(max_tokens=64))
    clip, kl = [], []
    for samples in minibatches(experience.samples, 4, seed=1, step=1):
        metrics = policy.update([experience.pack(samples)])
        clip.append(next(m.reduction.value() for m in metrics if m.name == "policy/clip_frac"))
        kl.append(next(m.reduction.value() for m in metrics if m.name == "policy/kl_old"))
    assert clip[0] == 0
    assert 0 <= kl[0] < 1e-6
    assert max(clip[1:]) > 0
    assert min(kl[1:]) > 1e-6
