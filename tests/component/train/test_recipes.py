"""Every shipped recipe loads, plans and says what ORZ's experiment says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orz_train.config import reference
from orz_train.config.checks import find_conflicts
from orz_train.config.dump import dump
from orz_train.config.load import load
from orz_train.config.preflight import check_names
from orz_train.config.recipes import find_recipe, list_overlays, list_recipes
from orz_train.config.yamlfile import read_tree
from orz_train.plan.summary import make_plan, plan_json

pytestmark = pytest.mark.component

RECIPES = [recipe.name for recipe in list_recipes()]
ORZ = [name for name in RECIPES if name.startswith("orz-")]
DOCS = Path(__file__).parents[3] / "docs" / "reference"

QWEN = "Qwen/Qwen2.5-"
TABLE: dict[str, dict[str, Any]] = {
    "orz-14m-ppo-mini": {
        "model": "EleutherAI/pythia-14m",
        "gpus": 32,
        "memory": 0.7,
        "row": 2048,
        "lengths": (1024, 1024),
    },
    "orz-0.5b-ppo-1gpu": {"model": f"{QWEN}0.5B", "gpus": 1, "memory": 0.75, "row": 10048},
    "orz-0.5b-ppo": {"model": f"{QWEN}0.5B", "gpus": 8, "memory": 0.75, "row": 10048},
    "orz-1.5b-ppo": {"model": f"{QWEN}1.5B", "gpus": 16, "memory": 0.7, "row": 10048},
    "orz-7b-ppo": {"model": f"{QWEN}7B", "gpus": 32, "memory": 0.7, "row": 16384},
    "orz-7b-grpo": {"model": f"{QWEN}7B", "gpus": 32, "memory": 0.75, "row": 16384},
    "orz-32b-ppo": {"model": f"{QWEN}32B", "gpus": 128, "memory": 0.95, "row": 10048},
}
"""Open-Reasoner-Zero's playground files, where they differ."""

DEBUG_GPUS = {"orz-14m-ppo-mini": 1, "orz-1.5b-ppo": 8, "orz-7b-ppo": 8, "orz-7b-grpo": 8, "orz-32b-ppo": 32}
"""GPUs under ORZ's DEBUG_MODE, where it changes them."""


def test_the_recipes_of_the_readme_are_there() -> None:
    """Quickstarts come first in the list, and each recipe has a sentence."""
    assert ["quickstart", "quickstart-grpo"] == RECIPES[:2]
    assert set(TABLE) == set(ORZ)
    assert ["debug"] == list_overlays()
    assert all(recipe.description for recipe in list_recipes())


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("overlays", [[], ["debug"]])
def test_recipe_loads_and_dumps(name: str, overlays: list[str], tmp_path: Path) -> None:
    """Alone and in small it is free of conflicts, and its resolved form loads back equal."""
    config = load(name, overlays=overlays).config
    assert name == config.name
    assert [] == find_conflicts(config)
    path = tmp_path / "config.yaml"
    path.write_text(dump(config), encoding="utf-8")
    assert config == load(str(path)).config


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("overlays", [[], ["debug"]])
def test_recipe_plans_without_models_and_data(name: str, overlays: list[str], tmp_path: Path) -> None:
    """What ships, shapes and row counts included, is enough for batches, memory and disk."""
    config = load(name, overlays=overlays).config
    check_names(config)
    plan = make_plan(config, run_dir=tmp_path)
    assert plan.memory is not None
    assert plan.disk is not None
    assert (4 if overlays else config.steps or 445 * 20) == plan.batches.num_steps
    assert 0 < plan.memory.peak
    assert json.loads(json.dumps(plan_json(plan)))["estimated"] is True


@pytest.mark.parametrize("name", ORZ)
def test_orz_recipe_has_orz_values(name: str) -> None:
    """What ORZ's experiment sets is what ours resolves to (orz.md 1.3)."""
    config = load(name).config
    row = TABLE[name]
    assert (row["model"], row["gpus"]) == (config.policy.model, config.cluster.num_gpus)
    assert (row["memory"], row["row"]) == (config.cluster.gpu_memory_utilization, config.packing.max_tokens_per_row)
    lengths = (config.data.max_prompt_tokens, config.generation.max_response_tokens)
    assert row.get("lengths", (2048, 8000)) == lengths
    assert (128, 64, 20) == (config.prompts_per_step, config.samples_per_prompt, config.episodes)
    assert ("cluster", 3, 42) == (config.backend, config.cluster.zero_stage, config.seed)
    assert (1.0, 1.0, -1) == (config.generation.temperature, config.generation.top_p, config.generation.top_k)
    assert ("User:", "Human:", "Assistant:", "</answer>") == config.generation.stop
    assert 128 == config.generation.max_sequences
    policy = config.policy
    assert ("bfloat16", True, 1, 1) == (
        policy.dtype,
        policy.gradient_checkpointing,
        policy.updates_per_step,
        policy.epochs_per_step,
    )
    optimizer = policy.optimizer
    assert (1e-6, 50, "constant") == (optimizer.lr, optimizer.warmup_steps, optimizer.schedule)
    assert ((0.9, 0.95), 0, 1.0) == (optimizer.betas, optimizer.weight_decay, optimizer.max_grad_norm)
    assert (1, 1, "zero", True) == (
        config.advantage.gamma,
        config.advantage.lam,
        config.advantage.truncation,
        config.advantage.whiten,
    )
    assert (0.2, 0.2, "row_mean", 0) == (
        config.loss.clip_low,
        config.loss.clip_high,
        config.loss.reduction,
        config.loss.entropy_coef,
    )
    assert (0, 0, False) == (config.kl.reward_coef, config.kl.loss_coef, config.needs_reference)
    assert ("math", True, "zero") == (config.reward.function, config.reward.only_if_stopped, config.reward.unscored)
    assert (50, 0 if name == "orz-14m-ppo-mini" else 10) == (config.checkpoint.every_steps, config.eval.every_steps)
    assert "r1-zero" == config.data.template


@pytest.mark.parametrize("name", [name for name in ORZ if name != "orz-7b-grpo"])
def test_orz_ppo_trains_its_critic_twelvefold(name: str) -> None:
    """A critic of the policy's kind: rate 5e-6, 12 updates, value clip 0.2."""
    config = load(name).config
    assert config.critic is not None
    critic = config.critic
    assert ("ppo", None, 12, 5e-6) == (
        config.algorithm.kind,
        critic.model,
        critic.updates_per_step,
        critic.optimizer.lr,
    )
    assert ("bfloat16", True, 50) == (critic.dtype, critic.gradient_checkpointing, critic.optimizer.warmup_steps)
    assert 0.2 == config.loss.value_clip


def test_orz_grpo_only_centres() -> None:
    """ORZ's GRPO never divides by the group's standard deviation, and has no critic."""
    config = load("orz-7b-grpo").config
    assert ("grpo", None, False) == (config.algorithm.kind, config.critic, config.advantage.normalize_std)


def test_orz_32b_splits_its_gpus() -> None:
    """32 for the policy, 32 for the critic, 16 engines of 4."""
    cluster = load("orz-32b-ppo").config.cluster
    assert ("split", 32, 32) == (cluster.layout, cluster.policy_gpus, cluster.critic_gpus)
    assert (16, 4) == (cluster.num_engines, cluster.tensor_parallel)


@pytest.mark.parametrize("name", RECIPES)
def test_debug_overlay_is_small(name: str) -> None:
    """16 prompts of 2 samples as under ORZ's DEBUG_MODE, a few steps, and its GPUs where it changes them."""
    full, config = load(name).config, load(name, overlays=["debug"]).config
    assert (16, 2, 4, None) == (config.prompts_per_step, config.samples_per_prompt, config.steps, config.episodes)
    assert DEBUG_GPUS.get(name, full.cluster.num_gpus) == config.cluster.num_gpus
    assert (full.policy, full.data) == (config.policy, config.data)
    if name in ORZ and full.critic:
        assert config.critic is not None
        assert 1 == config.critic.updates_per_step


@pytest.mark.parametrize("name", ORZ)
def test_recipes_are_sparse(name: str) -> None:
    """A recipe states what is its own: no copies of the base."""
    assert 25 > len(find_recipe(name).read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("name", "made"), [(reference.PAGE, reference.page), (reference.SCHEMA, reference.recipe_schema)]
)
def test_reference_is_current(name: str, made: Any) -> None:
    """The committed page and schema are what the docstrings say; else run orz_train.config.reference again."""
    assert made() == (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RECIPES)
def test_schema_accepts_shipped_recipes(name: str) -> None:
    """An editor that reads the schema marks no shipped recipe, and does mark a misspelt key."""
    schema = json.loads(reference.recipe_schema())
    data = json.loads(json.dumps(read_tree(find_recipe(name)).data))
    jsonschema.validate(data, schema)
    with pytest.raises(jsonschema.ValidationError, match="was unexpected"):
        jsonschema.validate({**data, "prompts_per_stp": 1}, schema)
