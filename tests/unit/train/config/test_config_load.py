"""Layers of settings and their precedence."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orz_train.config.load import load
from orz_train.errors import ConfigError

pytestmark = pytest.mark.unit

Write = Callable[..., str]


def test_layers_win_in_order(write: Write, sound: str) -> None:
    """Defaults < extends chain, deepest first < recipe < overlays in order < arguments."""
    del sound
    write("extends: sound.yaml\nseed: 1\nprompts_per_step: 10\nlogging: {rollouts_max: 1}\n", "middle.yaml")
    top = write("extends: ./middle.yaml\nseed: 2\nsamples_per_prompt: 20\n", "top.yaml")
    first = write("seed: 3\ncheckpoint: {every_steps: 30}\n", "first.yaml")
    second = write("seed: 4\ncheckpoint: {keep: 40}\n", "second.yaml")
    loaded = load(top, ["seed=5", "checkpoint.keep=50"], [first, second])
    config = loaded.config
    assert (5, 10, 20) == (config.seed, config.prompts_per_step, config.samples_per_prompt)
    assert (30, 50) == (config.checkpoint.every_steps, config.checkpoint.keep)
    assert (5, 1, True) == (config.steps, config.logging.rollouts_max, config.logging.tensorboard)
    sources = ("sound.yaml", "middle.yaml", "top.yaml", "first.yaml", "second.yaml")
    assert (*sources, "argument seed=5", "argument checkpoint.keep=50") == loaded.sources


def test_origins_say_who_had_the_last_word(write: Write, sound: str) -> None:
    """Each setting remembers the file and line, or the argument, that decided it; a default remembers nothing."""
    del sound
    top = write("extends: sound.yaml\n\npolicy:\n  optimizer:\n    warmup_steps: 3\n")
    origins = load(top, ["seed=5"]).origins
    assert "mine.yaml:5" == str(origins["policy.optimizer.warmup_steps"])
    assert "sound.yaml:8" == str(origins["policy.optimizer.lr"])
    assert "argument 'seed=5'" == str(origins["seed"])
    assert "kl.estimator" not in origins
    nested = load(top, ["policy={optimizer: {lr: 2}}"]).origins
    assert "argument 'policy={optimizer: {lr: 2}}'" == str(nested["policy.optimizer.lr"])
    assert "mine.yaml:5" == str(nested["policy.optimizer.warmup_steps"])


def test_sections_merge_and_values_are_replaced(write: Write, sound: str) -> None:
    """A section keeps the keys that a later layer doesn't name; lists and the names of eval sets start anew."""
    del sound
    write("extends: sound.yaml\ndata:\n  eval: {a: a.json, b: b.json}\ngeneration: {stop: [x, y]}\n", "base.yaml")
    top = write("extends: base.yaml\ndata:\n  eval: {c: c.json}\ngeneration: {stop: [z]}\n")
    config = load(top).config
    assert {"c": "c.json"} == config.data.eval
    assert ("z",) == config.generation.stop
    assert (("train.jsonl",), 8) == (config.data.train, config.generation.max_response_tokens)
    assert {"c": "c.json", "d": "d.json"} == load(top, ["data.eval.d=d.json"]).config.data.eval
    assert {"d": "d.json"} == load(top, ["data.eval={d: d.json}"]).config.data.eval


def test_numbers_are_yaml_1_2(write: Write, sound: str) -> None:
    """1e-6 without a dot is a number, and `no` and dates are texts."""
    del sound
    top = write("extends: sound.yaml\npolicy:\n  model: no\n  optimizer: {lr: 1e-6}\ndescription: 2024-01-01\n")
    config = load(top).config
    assert (1e-6, "no", "2024-01-01") == (config.policy.optimizer.lr, config.policy.model, config.description)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("policy.optimizer.lr=1e-6", 1e-6),
        ("data.train=[a.json, b.json]", ("a.json", "b.json")),
        ("checkpoint.keep=null", None),
        ("eval.temperature=0", 0.0),
        ("policy.gradient_checkpointing=true", True),
        ("generation.stop=['User:', '</answer>']", ("User:", "</answer>")),
        ("generation.stop=[]", ()),
        ("advantage.whiten=false", False),
    ],
)
def test_argument_values_are_yaml(sound: str, argument: str, expected: object) -> None:
    """A value on the command line is what it would be in a file."""
    value: object = load(sound, [argument]).config
    for name in argument.partition("=")[0].split("."):
        value = getattr(value, name)
    assert expected == value


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("name=7", "7"),
        ("data.template=Q: {problem} A:", "Q: {problem} A:"),
        ("data.template={problem}=", "{problem}="),
        ('description="true"', "true"),
        ("description='it''s'", "it's"),
        ("description=", ""),
        ("data.source=mine:rows", "mine:rows"),
        ("reference.model=null", None),
    ],
)
def test_arguments_for_texts_need_no_quotes(sound: str, argument: str, expected: object) -> None:
    """Where a text belongs, what follows the first = is the text itself, whatever YAML would see in it."""
    value: object = load(sound, [argument]).config
    for name in argument.partition("=")[0].split("."):
        value = getattr(value, name)
    assert expected == value


def test_later_argument_wins(sound: str) -> None:
    """Of two arguments for one key the later counts, also where one is inside the other."""
    assert 3 == load(sound, ["seed=2", "seed=3"]).config.seed
    config = load(sound, ["policy.optimizer={lr: 1, eps: 2}", "policy.optimizer.lr=3"]).config
    assert (3, 2) == (config.policy.optimizer.lr, config.policy.optimizer.eps)


def test_section_can_be_taken_away_and_brought_back(sound: str) -> None:
    """critic=null removes the section; a key below it makes a new one that inherits nothing."""
    assert load(sound, ["algorithm=grpo", "critic=null"]).config.critic is None
    critic = load(sound, ["critic=null", "critic.optimizer.lr=2"]).config.critic
    assert critic is not None
    assert 2 == critic.optimizer.lr


def test_empty_section_is_a_section(write: Write, sound: str) -> None:
    """`kl:` with nothing below it changes nothing."""
    del sound
    assert 0 == load(write("extends: sound.yaml\nkl:\n")).config.kl.loss_coef


def test_shorthand_keeps_the_rest_of_its_section(write: Write, sound: str) -> None:
    """`reward: module:function` names the function and leaves workers and time-out as the base has them."""
    del sound
    write("extends: sound.yaml\nreward: {workers: 7}\n", "base.yaml")
    reward = load(write("extends: base.yaml\nreward: mine:score\n")).config.reward
    assert ("mine:score", 7) == (reward.function, reward.workers)


def test_alternatives_replace_each_other(write: Write, sound: str) -> None:
    """A later layer that sets steps unsets episodes, and the other way round; so with data.train and data.source."""
    del sound
    write("extends: sound.yaml\nepisodes: 3\n", "base.yaml")
    base = load("./base.yaml").config
    assert (None, 3) == (base.steps, base.episodes)
    config = load("./base.yaml", ["steps=2"]).config
    assert (2, None) == (config.steps, config.episodes)
    data = load("./base.yaml", ["data.source=mine:rows"]).config.data
    assert ((), "mine:rows") == (data.train, data.source)
    overlay = write("episodes: 9\n", "long.yaml")
    assert (None, 9) == (
        (config := load("./base.yaml", overlays=[overlay]).config).steps,
        config.episodes,
    )


def test_alternatives_in_one_layer_are_an_error(sound: str) -> None:
    """Both on one command line contradict each other, and nobody guesses."""
    with pytest.raises(ConfigError, match="argument 'steps=2': steps: got steps 2 and episodes 3, expected one"):
        load(sound, ["steps=2", "episodes=3"])


def test_name_is_the_files_own(write: Write, sound: str) -> None:
    """Name defaults to the file's stem; neither it nor the description comes from an extended recipe."""
    del sound
    write("extends: sound.yaml\nname: base-run\ndescription: the base\n", "base.yaml")
    config = load(write("extends: base.yaml\n", "my-run.yaml")).config
    assert ("my-run", "") == (config.name, config.description)
    assert "base-run" == load("./base.yaml").config.name
    assert "other" == load("./base.yaml", ["name=other"]).config.name


def test_what_extends_orz_follows_orz(write: Write, sound: str) -> None:
    """Directly, through a shipped recipe or through a base; the quickstart and recipes of one's own don't."""
    own = load(write("extends: orz-7b-ppo\n"))
    assert ("orz-base", "orz-ppo-base", "orz-7b-ppo", "mine") == own.lineage
    assert [True, True] == [own.follows_orz, load("orz-7b-grpo").follows_orz]
    assert [False, False] == [load(sound).follows_orz, load("quickstart-grpo").follows_orz]


def test_overlay_has_parts_for_single_recipes(write: Write, sound: str) -> None:
    """per_recipe settings hold for the named recipe and those that extend it, after the overlay's own."""
    write("extends: sound.yaml\n", "child.yaml")
    overlay = write(
        "seed: 1\nper_recipe:\n  sound: {seed: 2, prompts_per_step: 3}\n  child: {prompts_per_step: 6}\n", "o.yaml"
    )
    config = load(sound, overlays=[overlay]).config
    assert (2, 3) == (config.seed, config.prompts_per_step)
    loaded = load("./child.yaml", overlays=[overlay])
    assert (2, 6) == (loaded.config.seed, loaded.config.prompts_per_step)
    assert "o.yaml:4" == str(loaded.origins["prompts_per_step"])
