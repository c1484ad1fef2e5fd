"""The resolved configuration as text, its fingerprint, and what may change on a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orz_train.config.dump import config_sha256, dump
from orz_train.config.fields import leaf_keys
from orz_train.config.length import num_steps, steps_per_episode
from orz_train.config.load import load
from orz_train.config.resume import blocks_resume, differences
from orz_train.config.schema import Config
from orz_train.config.yamlfile import read_tree

pytestmark = pytest.mark.unit


def reloaded(config: Config, folder: Path) -> Config:
    path = folder / "dumped.yaml"
    path.write_text(dump(config), encoding="utf-8")
    return load(str(path)).config


@pytest.mark.parametrize("arguments", [[], ["algorithm=grpo", "critic=null"], ["steps=null", "episodes=2"]])
def test_dump_loads_back_to_an_equal_configuration(sound: str, tmp_path: Path, arguments: list[str]) -> None:
    """Every setting survives the way through YAML, the absent critic too."""
    config = load(sound, arguments).config
    assert config == reloaded(config, tmp_path)


def test_dump_states_every_setting(sound: str) -> None:
    """Defaults are written out, nulls as null, so that a later change of a default changes no run."""
    text = dump(load(sound).config)
    assert all(f"{key[-1]}:" in text for key in leaf_keys())
    assert "  keep: null\n" in text


TEXTS = st.characters(codec="utf-8", exclude_characters="\0")
"""What a setting can hold; a NUL is refused when it is read, see test_config_hostile_yaml.py."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(TEXTS, max_size=40),
    texts=st.lists(st.text(TEXTS, max_size=12), max_size=4),
    lr=st.floats(min_value=0, exclude_min=True, max_value=10),
    sets=st.dictionaries(st.text(TEXTS, max_size=8), st.text(TEXTS, max_size=8), max_size=3),
)
@example(text="\x85 next line", texts=["1e-6", "null", ""], lr=5e-324, sets={"2024": "a: b", "": "\n"})
def test_any_text_and_number_survives_the_dump(
    sound: str, tmp_path: Path, text: str, texts: list[str], lr: float, sets: dict[str, str]
) -> None:
    """Quotes, colons, newlines, numbers in disguise, tiny rates: what was dumped is what is loaded."""
    base = load(sound).config
    config = base.model_copy(
        update={
            "description": text,
            "data": base.data.model_copy(update={"template": text, "train": tuple(texts), "eval": sets}),
            "policy": base.policy.model_copy(
                update={"optimizer": base.policy.optimizer.model_copy(update={"lr": lr, "eps": lr})}
            ),
        }
    )
    path = tmp_path / "dumped.yaml"
    path.write_text(dump(config), encoding="utf-8")
    tree = read_tree(path)
    assert [] == tree.problems
    assert config == Config.model_validate(tree.data, strict=True)


def test_fingerprint_is_of_the_settings_alone(sound: str, tmp_path: Path) -> None:
    """Equal configurations have equal fingerprints, however they were written; a changed setting changes it."""
    config = load(sound).config
    assert config_sha256(config) == config_sha256(load(sound, ["steps=5", "kl.loss_coef=0"]).config)
    assert config_sha256(config) == config_sha256(reloaded(config, tmp_path))
    assert config_sha256(config) != config_sha256(load(sound, ["seed=43"]).config)
    assert 64 == len(config_sha256(config))


def test_differences_name_old_and_new(sound: str) -> None:
    """Each setting that differs is listed with both values; equal configurations differ in nothing."""
    old = load(sound).config
    new = load(sound, ["policy.optimizer.lr=2", "eval.every_steps=3"]).config
    assert [("policy.optimizer.lr", 1e-4, 2.0), ("eval.every_steps", 10, 3)] == differences(old, new)
    assert [] == differences(old, load(sound).config)


def test_a_section_that_went_counts_with_all_its_settings(sound: str) -> None:
    """Where the new run has no critic, its settings are None."""
    found = differences(load(sound).config, load(sound, ["algorithm=grpo", "critic=null"]).config)
    assert ("algorithm.kind", "ppo", "grpo") == found[0]
    assert ("critic.optimizer.lr", 1e-3, None) in found


@pytest.mark.parametrize(
    ("argument", "blocks"),
    [
        ("steps=9", False),
        ("checkpoint.every_steps=3", False),
        ("logging.tensorboard=false", False),
        ("eval.every_steps=3", False),
        ("data.eval.a=a", False),
        ("nonfinite.max_consecutive=5", False),
        ("reward.workers=8", False),
        ("reward.timeout_s=1", False),
        ("description=x", False),
        ("reward.unscored=zero", True),
        ("reward=exact", True),
        ("seed=1", True),
        ("prompts_per_step=8", True),
        ("policy.optimizer.lr=1", True),
        ("policy.model=other", True),
        ("data.train=[other]", True),
        ("packing.max_tokens_per_row=99", True),
        ("generation.temperature=0.5", True),
        ("cluster.num_gpus=2", True),
    ],
)
def test_what_may_change_on_a_resume(sound: str, argument: str, blocks: bool) -> None:
    """Length, checkpoints, logs and evaluation may change; what the run has learnt from may not."""
    new = load(sound, [argument]).config
    found = differences(load(sound).config, new)
    assert [blocks] == [blocks_resume(difference, new) for difference in found]


@pytest.mark.parametrize("role", ["policy", "critic"])
def test_length_may_not_change_under_a_falling_rate(sound: str, role: str) -> None:
    """A schedule that falls to 0 over the run was made for its old length."""
    falling = f"{role}.optimizer.schedule=linear"
    old, new = load(sound, [falling]).config, load(sound, [falling, "steps=9"]).config
    assert [True] == [blocks_resume(difference, new) for difference in differences(old, new)]


def test_episodes_become_steps_as_orz_counts(sound: str) -> None:
    """56,878 prompts at 128 a step are 445 steps an episode and 8,900 in twenty (orz.md 1.1)."""
    config = load(sound, ["episodes=20", "prompts_per_step=128", "samples_per_prompt=1"]).config
    assert (445, 8900) == (steps_per_episode(config, 56878), num_steps(config, 56878))
    assert (1, 1) == (steps_per_episode(config, 128), steps_per_episode(config, 1))
    assert 2 == steps_per_episode(config, 129)
    assert 5 == num_steps(load(sound).config, 0)


def test_an_episode_needs_prompts(sound: str) -> None:
    """No prompts, no length; nor without steps and episodes."""
    config = load(sound, ["episodes=2"]).config
    with pytest.raises(ValueError, match="an episode needs a prompt, got 0"):
        num_steps(config, 0)
    with pytest.raises(ValueError, match="neither steps nor episodes"):
        num_steps(config.model_copy(update={"episodes": None}), 5)
