"""Placement, warnings and suggestions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orz_cli.findings import Finding, Severity
from orz_train.config.model_shapes import ModelShape
from orz_train.config.schema import Config
from orz_train.plan.advice import advise, advise_disk, advise_generation, advise_memory
from orz_train.plan.arithmetic import plan_batches
from orz_train.plan.disk import Disk
from orz_train.plan.memory import plan_memory
from orz_train.plan.placement import Group, plan_placement
from orz_train.plan.summary import make_plan
from orz_train.plan.text import memory_sentences

pytestmark = pytest.mark.unit

Make = Callable[..., Config]


def advice_on(config: Config, *, follows_orz: bool = True) -> list[Finding]:
    batches = plan_batches(config, ranks=1, critic_ranks=1)
    return advise(config, batches, plan_placement(config), follows_orz=follows_orz)


def generation_advice(config: Config, shape: ModelShape, device: int) -> list[Finding]:
    placement = plan_placement(config)
    memory = plan_memory(config, shape, shape, placement, device)
    return advise_generation(config, shape, memory, device, plan_batches(config, ranks=1, critic_ranks=1))


def test_colocated_roles_share_all_gpus(planned: Make) -> None:
    """Only roles that the run has: no reference without a KL, no critic in GRPO."""
    placement = plan_placement(planned(cluster={"num_gpus": 4, "num_engines": 4}))
    assert (Group(roles=("policy", "critic", "generator"), first=0, count=4),) == placement.groups
    assert (4, 4, "GPU 0-3") == (placement.policy_ranks, placement.critic_ranks, placement.groups[0].devices)
    grpo = plan_placement(planned(algorithm="grpo", critic=None, kl__loss_coef=0.1))
    assert (Group(roles=("policy", "reference", "generator"), first=0, count=1),) == grpo.groups
    assert "GPU 0" == grpo.groups[0].devices


def test_split_roles_stand_side_by_side(planned: Make) -> None:
    """Policy and reference, critic, engines: each group begins where the last one ends."""
    cluster = {"layout": "split", "num_gpus": 9, "policy_gpus": 2, "critic_gpus": 3, "num_engines": 2}
    placement = plan_placement(planned(cluster={**cluster, "tensor_parallel": 2}, kl__loss_coef=0.1))
    expected = (
        Group(roles=("policy", "reference"), first=0, count=2),
        Group(roles=("critic",), first=2, count=3),
        Group(roles=("generator",), first=5, count=4),
    )
    assert expected == placement.groups
    assert (2, 3) == (placement.policy_ranks, placement.critic_ranks)


def test_without_gpus_nothing_is_placed(planned: Make) -> None:
    """One plain process, and a cluster of CPUs, have one rank and no groups."""
    for changes in ({"backend": "local"}, {"cluster__num_gpus": 0}):
        placement = plan_placement(planned(**changes))
        assert ((), 1, 1) == (placement.groups, placement.policy_ranks, placement.critic_ranks)


def test_orz_ratio_needs_no_word(planned: Make) -> None:
    """1 : 12 is ORZ's; so is 2 : 24."""
    assert [] == advice_on(planned())
    assert [] == advice_on(planned(policy__updates_per_step=2, critic__epochs_per_step=2))
    assert [] == advice_on(planned(algorithm="grpo", critic=None))


def test_another_ratio_is_a_warning_with_orz_number(planned: Make) -> None:
    """In a recipe that follows ORZ's, 1 : 4 warns, and says which setting gives 1 : 12."""
    (finding,) = advice_on(planned(critic__updates_per_step=4))
    assert ("update_ratio", Severity.WARN) == (finding.code, finding.severity)
    assert "1 : 4 optimizer steps" in finding.message
    assert finding.remedy.startswith("critic.updates_per_step=12 ")


def test_another_ratio_is_a_note_where_nothing_follows_orz(planned: Make) -> None:
    """A recipe of its own is told how ORZ does it, and nothing is asked of it."""
    (finding,) = advice_on(planned(critic__updates_per_step=4), follows_orz=False)
    assert ("update_ratio", Severity.INFO, "") == (finding.code, finding.severity, finding.remedy)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"steps": None, "episodes": 2}, "length_unknown"),
        ({"data__expected_rows": 7}, "episode_within_step"),
        ({"cluster": {"num_gpus": 4, "num_engines": 2}}, "idle_while_generating"),
        (
            {"cluster": {"num_gpus": 9, "layout": "split", "policy_gpus": 2, "critic_gpus": 2}},
            "idle_gpus",
        ),
        ({"loss__reduction": "row_mean"}, "row_mean"),
    ],
)
def test_other_remarks(planned: Make, changes: dict[str, object], code: str) -> None:
    """Unknown lengths, tiny episodes, GPUs without work and the notes on settings are all told."""
    assert [code] == [finding.code for finding in advice_on(planned(**changes))]


def test_sequences_that_fit_need_no_word(planned: Make, shape: ModelShape) -> None:
    """32 sequences of 140 tokens at 64 bytes are 286,720 bytes of cache; 70 % of 500,000 minus weights hold them."""
    assert [] == generation_advice(planned(), shape, 500_000)
    assert [] == generation_advice(planned(backend="local"), shape, 1000)


def test_longest_sequences_that_don_t_fit_are_a_note(planned: Make, shape: ModelShape) -> None:
    """In 276,128 bytes 32 sequences fit up to 134 tokens, and 30 of the longest: enough for the usual ones."""
    (finding,) = generation_advice(planned(), shape, 400_000)
    assert ("kv_cache_small", Severity.INFO) == (finding.code, finding.severity)
    assert "up to 134 tokens each; of the longest, 140 tokens, 30 fit" in finding.message
    assert finding.remedy.startswith("generation.max_sequences=30 ")


def test_usual_sequences_that_don_t_fit_are_a_warning(planned: Make, shape: ModelShape) -> None:
    """In 31,128 bytes 32 sequences fit up to 15 tokens, and half-length responses with their prompts take 30."""
    (finding,) = generation_advice(planned(), shape, 50_000)
    assert ("kv_cache_small", Severity.WARN) == (finding.code, finding.severity)
    assert "up to 15 tokens each" in finding.message


def test_weights_that_don_t_fit_an_engine_are_a_warning(planned: Make, shape: ModelShape) -> None:
    """70 % of 5,000 bytes are less than 3,872 of weights."""
    (finding,) = generation_advice(planned(), shape, 5000)
    assert ("engine_too_small", Severity.WARN) == (finding.code, finding.severity)
    assert "an engine may take 3.5 kB of a GPU, and the weights alone need 3.87 kB" in finding.message


def test_roles_larger_than_the_device_are_named(planned: Make, shape: ModelShape) -> None:
    """The policy's 221,888 bytes don't fit in 200,000; the critic's 180,736 do."""
    config = planned()
    memory = plan_memory(config, shape, shape, plan_placement(config), 200_000)
    assert ["the policy needs about 222 kB on a device of 200 kB"] == [
        finding.message for finding in advise_memory(config, memory, 200_000)
    ]
    assert [] == advise_memory(planned(backend="local"), memory, 1)


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (400, None),
        (399, "checkpoint.keep=2, a higher checkpoint.every_steps, or --run-dir on a larger disk"),
        (150, "--run-dir on a larger disk"),
        (None, None),
    ],
)
def test_full_disks_are_foretold(free: int | None, expected: str | None) -> None:
    """4 checkpoints of 100 bytes: a warning where less is free, with how many may be kept."""
    found = advise_disk(Disk(policy=60, critic=30, state=10, saves=4, kept=4, folder="runs", free=free))
    assert ([expected] if expected else []) == [finding.remedy for finding in found]


def test_unknown_model_leaves_memory_open(planned: Make, tmp_path: Path) -> None:
    """A plan of a model that nobody knows has batches, and says why it has no sizes."""
    plan = make_plan(planned(), run_dir=tmp_path)
    assert (None, None, None) == (plan.shape, plan.memory, plan.disk)
    assert "the shape of base isn't known here" in plan.findings[-1].message
    critic = make_plan(planned(policy__model="Qwen/Qwen2.5-7B", critic__model="other"), run_dir=tmp_path)
    assert "the shape of other isn't known here" in critic.findings[-1].message


def test_warnings_come_first(planned: Make, tmp_path: Path) -> None:
    """Whoever reads two lines reads the warnings."""
    config = planned(policy__model="Qwen/Qwen2.5-7B", loss__reduction="row_mean", critic__updates_per_step=4)
    severities = [finding.severity for finding in make_plan(config, run_dir=tmp_path, follows_orz=True).findings]
    assert sorted(severities, key=[Severity.WARN, Severity.INFO].index) == severities
    assert {Severity.WARN, Severity.INFO} == set(severities)


def test_sentences_say_where_roles_are(planned: Make, tmp_path: Path) -> None:
    """One line a group of devices, one for the engines."""
    config = planned(policy__model="Qwen/Qwen2.5-7B", cluster={"num_gpus": 2, "num_engines": 2})
    sentences = list(memory_sentences(make_plan(config, run_dir=tmp_path)))
    assert ["GPU 0-1: policy, critic, generator, in turns.", "Generation: 2 engines of 1 GPU."] == sentences[:2]
